//! Compares the events of a range with the leaves that were sealed.
//!
//! **Invariant I-69.** Each sealed leaf is matched by exactly one event, and each event of a sealed range by exactly one leaf; everything
//! else is reported.
//!
//! The ids are stored beside the leaves, and only help to name what is missing: an id is part of the canonical line, so a changed id is a
//! missing event and an inserted one.

use std::collections::HashMap;

use uuid::Uuid;

use super::{EventBits, HASH_BYTES, Hash, ID_BYTES, SALT_BYTES, Salt};

/// The ids, leaves and salts of a seal, and which of them were matched.
#[derive(Debug)]
pub struct SealedPage {
    ids: Vec<Uuid>,
    leaves: Vec<Hash>,
    salts: Vec<Option<Salt>>,
    is_matched: Vec<bool>,
    /// Events that are not in the log any more, but in an archive.
    is_archived: Vec<bool>,
    /// The leaves and salts of events that were erased after they were sealed.
    erased: HashMap<Uuid, (Hash, Option<Salt>)>,
    /// The expected index of the next event.
    next: usize,
}

/// The result of the comparison of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The leaf is the sealed one.
    Same,
    /// The leaf is another one.
    Changed,
    /// The event is sealed, but cannot be compared without its salt.
    WithoutSalt,
    /// The event is not sealed.
    Inserted,
    /// The event is sealed once and occurs again.
    Repeated,
}

impl SealedPage {
    /// The content of a seal. None if the leaves are not as many as the ids. Salts that are absent count as deleted.
    pub fn new(ids: &[u8], leaves: &[u8], salts: &[u8]) -> Option<Self> {
        let (ids, no_id) = ids.as_chunks::<ID_BYTES>();
        let (leaves, no_leaf) = leaves.as_chunks::<HASH_BYTES>();
        let (salts, _) = salts.as_chunks::<SALT_BYTES>();
        if ids.len() != leaves.len() || !no_id.is_empty() || !no_leaf.is_empty() {
            return None;
        }
        let mut salts: Vec<_> = salts.iter().take(ids.len()).map(|salt| Salt::from_stored(*salt)).collect();
        salts.resize(ids.len(), None);
        Some(Self {
            ids: ids.iter().map(|id| Uuid::from_bytes(*id)).collect(),
            leaves: leaves.to_vec(),
            salts,
            is_matched: vec![false; ids.len()],
            is_archived: vec![false; ids.len()],
            erased: HashMap::new(),
            next: 0,
        })
    }

    /// Number of sealed events.
    #[expect(clippy::len_without_is_empty, reason = "a seal has events")]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Adds the events that an erasure has changed; a later erasure takes the place of an earlier one. False if there are not as many
    /// leaves and salts as ids.
    pub fn add_erased(&mut self, ids: &[u8], leaves: &[u8], salts: &[u8]) -> bool {
        let (ids, no_id) = ids.as_chunks::<ID_BYTES>();
        let (leaves, no_leaf) = leaves.as_chunks::<HASH_BYTES>();
        let (salts, no_salt) = salts.as_chunks::<SALT_BYTES>();
        let is_whole = no_id.is_empty() && no_leaf.is_empty() && no_salt.is_empty();
        if !is_whole || ids.len() != leaves.len() || ids.len() != salts.len() {
            return false;
        }
        let erased = leaves.iter().zip(salts).map(|(leaf, salt)| (*leaf, Salt::from_stored(*salt)));
        self.erased.extend(ids.iter().map(|id| Uuid::from_bytes(*id)).zip(erased));
        true
    }

    /// Marks events that an archive contains: they are not expected in the log. False if these cannot be events of the seal, or another
    /// archive contains one of them.
    pub fn add_archived(&mut self, events: &EventBits) -> bool {
        let is_new =
            events.fit(self.len()) && !(0..self.len()).any(|at| events.has(at) && self.is_archived[at]);
        for (index, is_archived) in self.is_archived.iter_mut().enumerate() {
            *is_archived |= is_new && events.has(index);
        }
        is_new
    }

    /// The index of an event, and the salt of its line: that of its last erasure, if there was one. `None` without a salt.
    pub fn salt_of(&self, id: Uuid) -> Option<(usize, Salt)> {
        let index = self.ids.iter().position(|known| *known == id)?;
        let salt = self.salts[index].or_else(|| self.erased.get(&id).and_then(|(_, salt)| *salt));
        salt.map(|salt| (index, salt))
    }

    /// Compares the next line of the archive that contains these events, by its leaf. The line of an erased event is that after its last
    /// erasure.
    pub fn compare_line(&mut self, events: &EventBits, id: Uuid, leaf: &Hash) -> Comparison {
        let is_archived = |index: &usize| self.ids[*index] == id && events.has(*index);
        let Some(index) = (0..self.ids.len()).find(is_archived) else { return Comparison::Inserted };
        if self.is_matched[index] {
            return Comparison::Repeated;
        }
        self.is_matched[index] = true;
        let expected = self.erased.get(&id).map_or(&self.leaves[index], |(leaf, _)| leaf);
        if expected == leaf { Comparison::Same } else { Comparison::Changed }
    }

    /// The events of an archive of which no line was compared.
    pub fn missing_lines(&self, events: &EventBits) -> impl Iterator<Item = Uuid> {
        (0..self.ids.len())
            .filter(|index| events.has(*index) && !self.is_matched[*index])
            .map(|index| self.ids[index])
    }

    /// Compares the next event. Without `leaf_of`, only its existence is checked.
    pub fn compare(&mut self, id: Uuid, leaf_of: Option<impl FnOnce(&Salt) -> Hash>) -> Comparison {
        let is_free = |index: usize| {
            self.ids.get(index) == Some(&id) && !self.is_matched[index] && !self.is_archived[index]
        };
        let index = if is_free(self.next) {
            self.next
        } else {
            match (0..self.ids.len()).find(|index| is_free(*index)) {
                Some(index) => index,
                None if self.ids.contains(&id) => return Comparison::Repeated,
                None => return Comparison::Inserted,
            }
        };
        self.is_matched[index] = true;
        self.next = index + 1;
        let Some(leaf_of) = leaf_of else { return Comparison::Same };
        let expected = match self.salts[index] {
            Some(salt) => Some((self.leaves[index], salt)),
            None => self.erased.get(&id).and_then(|(leaf, salt)| salt.map(|salt| (*leaf, salt))),
        };
        match expected {
            None => Comparison::WithoutSalt,
            Some((leaf, salt)) if leaf_of(&salt) == leaf => Comparison::Same,
            Some(_) => Comparison::Changed,
        }
    }

    /// The sealed events that were not compared and are not archived.
    pub fn missing(&self) -> impl Iterator<Item = Uuid> {
        let is_missing = |index: &usize| !self.is_matched[*index] && !self.is_archived[*index];
        (0..self.ids.len()).filter(is_missing).map(|index| self.ids[index])
    }
}

#[cfg(test)]
mod tests {
    use super::super::CouponEventForm;
    use super::super::event::tests::{SALT, coupon_event};
    use super::*;

    /// The comparisons of these events with a seal of the events 1, 2 and 3, and the missing events.
    fn compare(events: &[u128], salts: &[u8]) -> (Vec<Comparison>, Vec<u128>) {
        let sealed = [1, 2, 3].map(coupon_event);
        let ids: Vec<u8> = sealed.iter().flat_map(|event| event.position.id.into_bytes()).collect();
        let leaves: Vec<u8> = sealed.iter().flat_map(|event| event.leaf(&SALT)).collect();
        let mut page = SealedPage::new(&ids, &leaves, salts).unwrap();
        let compared = events
            .iter()
            .map(|id| page.compare(Uuid::from_u128(*id), Some(|salt: &Salt| coupon_event(*id).leaf(salt))));
        (compared.collect(), page.missing().map(|id| id.as_u128()).collect())
    }

    /// Invariant I-69.
    #[test]
    fn each_leaf_is_matched_by_one_event() {
        use Comparison::{Inserted, Repeated, Same, WithoutSalt};
        let salts = [7; 3 * SALT_BYTES];
        assert_eq!(compare(&[1, 2, 3], &salts), (vec![Same; 3], vec![]));
        assert_eq!(compare(&[1, 3], &salts), (vec![Same; 2], vec![2]));
        assert_eq!(compare(&[], &salts), (vec![], vec![1, 2, 3]));
        assert_eq!(compare(&[1, 4, 2, 3], &salts), (vec![Same, Inserted, Same, Same], vec![]));
        assert_eq!(compare(&[1, 2, 2, 3], &salts), (vec![Same, Same, Repeated, Same], vec![]));
        assert_eq!(compare(&[1, 2, 3], &salts[..20]), (vec![Same, WithoutSalt, WithoutSalt], vec![]));
    }

    /// Invariant I-69.
    #[test]
    fn a_changed_event_is_reported_and_events_of_another_book_are_only_counted() {
        let event = coupon_event(1);
        let salt = [7; SALT_BYTES];
        let sealed = || SealedPage::new(event.position.id.as_bytes(), &event.leaf(&SALT), &salt).unwrap();
        let mut changed = event.clone();
        changed.version += 1;
        let id = event.position.id;
        assert_eq!(sealed().compare(id, Some(|salt: &Salt| changed.leaf(salt))), Comparison::Changed);
        assert_eq!(sealed().compare(id, None::<fn(&Salt) -> Hash>), Comparison::Same);
        assert!(SealedPage::new(id.as_bytes(), &[], &salt).is_none());
    }

    /// Invariant I-72.
    #[test]
    fn an_event_without_its_salt_is_compared_with_the_leaf_of_its_last_erasure() {
        let (sealed, mut event) = (coupon_event(1), coupon_event(1));
        event.holder = Some("erased-1".to_owned());
        let id = sealed.position.id;
        let no_salt = [0; SALT_BYTES];
        let page = || SealedPage::new(id.as_bytes(), &sealed.leaf(&SALT), &no_salt).unwrap();
        let other = Salt::new([8; SALT_BYTES]);
        let erased = |event: &CouponEventForm, erasures: &[(Hash, [u8; SALT_BYTES])]| {
            let mut page = page();
            for (leaf, salt) in erasures {
                assert!(page.add_erased(id.as_bytes(), leaf, salt));
            }
            page.compare(id, Some(|salt: &Salt| event.leaf(salt)))
        };
        let erasure = (event.leaf(&other), [8; SALT_BYTES]);
        assert_eq!(erased(&event, &[]), Comparison::WithoutSalt);
        assert_eq!(erased(&event, &[erasure]), Comparison::Same);
        assert_eq!(erased(&sealed, &[erasure]), Comparison::Changed);
        assert_eq!(erased(&event, &[(event.leaf(&other), no_salt)]), Comparison::WithoutSalt);
        let mut again = event.clone();
        again.actor = "user:erased-2".to_owned();
        let both = [(event.leaf(&other), no_salt), (again.leaf(&other), [8; SALT_BYTES])];
        assert_eq!(erased(&again, &both), Comparison::Same);
        assert_eq!(erased(&event, &both), Comparison::Changed);
        assert!(!page().add_erased(id.as_bytes(), &[], &no_salt));
        assert!(!page().add_erased(id.as_bytes(), &sealed.leaf(&SALT), &[]));
    }

    /// Invariant I-77.
    #[test]
    fn an_archived_event_is_expected_in_its_archive_and_not_in_the_log() {
        let sealed = [1, 2, 3].map(coupon_event);
        let ids: Vec<u8> = sealed.iter().flat_map(|event| event.position.id.into_bytes()).collect();
        let leaves: Vec<u8> = sealed.iter().flat_map(|event| event.leaf(&SALT)).collect();
        let mut events = EventBits::none_of(3);
        events.add(0);
        events.add(2);
        let id = Uuid::from_u128;
        let page = || {
            let mut page = SealedPage::new(&ids, &leaves, &[7; 3 * SALT_BYTES]).unwrap();
            assert!(page.add_archived(&events));
            page
        };
        assert_eq!(page().missing().collect::<Vec<_>>(), [id(2)]);
        assert_eq!(page().missing_lines(&events).collect::<Vec<_>>(), [id(1), id(3)]);
        let mut page_of_all = page();
        assert_eq!(page_of_all.compare_line(&events, id(1), &sealed[0].leaf(&SALT)), Comparison::Same);
        assert_eq!(page_of_all.compare_line(&events, id(1), &sealed[0].leaf(&SALT)), Comparison::Repeated);
        assert_eq!(page_of_all.compare_line(&events, id(2), &sealed[1].leaf(&SALT)), Comparison::Inserted);
        assert_eq!(page_of_all.compare_line(&events, id(3), &sealed[0].leaf(&SALT)), Comparison::Changed);
        assert_eq!(page_of_all.missing_lines(&events).count(), 0);
        // In the log it is one too many.
        let leaf_of = |salt: &Salt| coupon_event(1).leaf(salt);
        assert_eq!(page().compare(id(1), Some(leaf_of)), Comparison::Repeated);
        assert!(!page().add_archived(&events) && !page().add_archived(&EventBits::none_of(9)));
        // The line of an erased event is that of the erasure.
        let mut erased = page();
        let other = Salt::new([8; SALT_BYTES]);
        let leaf = coupon_event(1).leaf(&other);
        assert!(erased.add_erased(id(1).as_bytes(), &leaf, &[0; SALT_BYTES]));
        assert_eq!(erased.compare_line(&events, id(1), &leaf), Comparison::Same);
        assert_eq!(page().salt_of(id(3)), Some((2, SALT)));
        assert_eq!(page().salt_of(id(4)), None);
    }
}

//! Queues the calls of a lane by business. A batch takes calls from each business in turn, so one business cannot
//! fill it while others wait.

use std::collections::{HashMap, VecDeque};

use cuponera_domain::id::BusinessId;

/// One queue for each business, and the order in which businesses are served.
#[derive(Debug)]
pub(super) struct FairQueue<C> {
    order: VecDeque<BusinessId>,
    /// No queue is empty.
    waiting: HashMap<BusinessId, VecDeque<C>>,
    len: usize,
}

impl<C> FairQueue<C> {
    pub(super) fn new() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, business: BusinessId, call: C) {
        let queue = self.waiting.entry(business).or_default();
        if queue.is_empty() {
            self.order.push_back(business);
        }
        queue.push_back(call);
        self.len += 1;
    }

    /// Takes up to `most` calls: one from each business in turn, and the calls of one business in order of arrival.
    pub(super) fn take(&mut self, most: usize) -> Vec<C> {
        let mut taken = Vec::with_capacity(most.min(self.len));
        while taken.len() < most
            && let Some(business) = self.order.pop_front()
        {
            let Some(queue) = self.waiting.get_mut(&business) else { continue };
            taken.extend(queue.pop_front());
            if queue.is_empty() {
                self.waiting.remove(&business);
            } else {
                self.order.push_back(business);
            }
        }
        self.len -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_business_with_many_calls_leaves_room_for_the_others_in_the_next_batch() {
        let [many, few] = [1, 2].map(|n| BusinessId(Uuid::from_u128(n)));
        let mut queue = FairQueue::new();
        for call in 0..1_000 {
            queue.push(many, ("many", call));
        }
        for call in 0..3 {
            queue.push(few, ("few", call));
        }
        let batch = queue.take(64);
        assert_eq!(batch.iter().filter(|(name, _)| *name == "few").count(), 3);
        assert_eq!(
            batch.iter().filter(|(name, _)| *name == "many").map(|(_, call)| *call).collect::<Vec<_>>(),
            (0..61).collect::<Vec<_>>()
        );
        assert_eq!((queue.len(), queue.take(64).len()), (939, 64));
        while queue.len() > 0 {
            queue.take(64);
        }
        assert!(queue.take(64).is_empty() && queue.order.is_empty() && queue.waiting.is_empty());
    }
}

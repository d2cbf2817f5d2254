//! Lists of redemptions: each once, newest first, whatever the filter.

use chrono::DateTime;
use cuponera_domain::book::BookRules;
use cuponera_domain::coupon::redemption::Redemption;
use cuponera_domain::id::RedemptionId;
use cuponera_store::RedemptionFilter;
use cuponera_testkit::{World, rules};

use super::rollback;

/// Follows the cursors of a list to its end.
async fn all(world: &World, filter: &RedemptionFilter, limit: u32) -> Vec<Redemption> {
    let (mut found, mut filter) = (Vec::new(), filter.clone());
    loop {
        let page = world.store().list_redemptions(world.business, &filter, limit).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items);
        let Some(cursor) = page.next_cursor else { return found };
        let (micros, id) = cursor.split_once('.').unwrap();
        let at = DateTime::from_timestamp_micros(micros.parse().unwrap()).unwrap();
        filter.after = Some((at, RedemptionId(id.parse().unwrap())));
    }
}

#[tokio::test]
async fn each_redemption_is_listed_once_newest_first() {
    let world = World::with(BookRules { max_redeems_per_user: 4, ..rules() }).await;
    let other_book = world.another_book(&rules()).await;
    let mut codes = world.insert_codes(4).await;
    codes.extend(world.insert_codes_into(other_book, "OTHER", 2).await);
    let mut made = Vec::new();
    for (n, code) in codes.iter().enumerate() {
        let user = if n % 2 == 0 { "ana" } else { "leo" };
        world.give(code, user).await;
        for sale in 0..if n < 4 { 4 } else { 1 } {
            let mut call = world.redeem(code, user);
            call.ask.reference = Some(format!("sale {sale}"));
            made.push(world.run_batch(call).await.outcome.unwrap().redemption);
        }
    }
    world.run_batch(rollback(&world, &codes[0], made[0])).await.outcome.unwrap();
    made.reverse();
    let everything = RedemptionFilter::default();
    for limit in [1, 3, 50] {
        let listed: Vec<_> = all(&world, &everything, limit).await.iter().map(|one| one.id).collect();
        assert_eq!(listed, made);
    }
    let of = async |filter| all(&world, &filter, 2).await;
    let in_other = of(RedemptionFilter { book: Some(other_book), ..everything.clone() }).await;
    assert_eq!(in_other.len(), 2);
    assert!(in_other.iter().all(|one| one.book == other_book));
    let of_ana = of(RedemptionFilter { user: Some("ana".into()), ..everything.clone() }).await;
    assert_eq!(of_ana.len(), 9);
    assert!(of_ana.iter().all(|one| one.user == "ana"));
    assert_eq!(of_ana.iter().filter(|one| one.rolled_back_at.is_some()).count(), 1);
    let sale = RedemptionFilter { reference: Some("sale 0".into()), ..everything.clone() };
    assert_eq!(of(sale.clone()).await.len(), 6);
    assert_eq!(of(RedemptionFilter { user: Some("leo".into()), ..sale.clone() }).await.len(), 3);
    assert_eq!(of(RedemptionFilter { book: Some(world.book), ..sale }).await.len(), 4);
    let third = of_ana[2].redeemed_at;
    let since =
        of(RedemptionFilter { user: Some("ana".into()), from: Some(third), ..everything.clone() }).await;
    let before =
        of(RedemptionFilter { user: Some("ana".into()), to: Some(third), ..everything.clone() }).await;
    assert_eq!((since.len(), before.len()), (3, 6));
    let elsewhere = world.another_business().await;
    let page = world.store().list_redemptions(elsewhere, &everything, 50).await.unwrap();
    assert!(page.items.is_empty());
    assert!(world.store().get_redemption(elsewhere, made[0]).await.is_err());
}

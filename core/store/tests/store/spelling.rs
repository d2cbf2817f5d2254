//! User ids that programs of the previous version stored untrimmed: a trimmed id finds the stored one if no other matches.
//!
//! The store does not trim ids, so a call with an untrimmed id writes what such a program wrote.

use std::fmt::Write;

use cuponera_domain::principal::RoleName;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::text;
use cuponera_store::{HeldFilter, NewAccount, examine};
use cuponera_testkit::{CallExt, World, race, rules};
use sqlx::{query, query_as, query_scalar};

async fn listed(world: &World, user: &str) -> Vec<String> {
    let page = world.store().list_held(world.business, user, &HeldFilter::default(), 500).await.unwrap();
    page.items.into_iter().map(|of_user| of_user.coupon.code).collect()
}

async fn make_account(world: &World, email: &str, user_id: &str) -> Result<String, Rejection> {
    let new = NewAccount {
        business: world.business,
        email: email.to_owned(),
        password_hash: "none".to_owned(),
        role: RoleName::User,
        user_id: Some(user_id.to_owned()),
    };
    world.store().create_account(None, &new).await.unwrap().outcome.map(|account| account.user_id)
}

#[tokio::test]
async fn the_database_trims_and_finds_hidden_characters_as_the_program_does() {
    let world = World::new().await;
    let all: Vec<char> = ('\u{1}'..=char::MAX).collect();
    let texts: Vec<String> =
        all.iter().map(|character| format!("{character}{character}x y{character}")).collect();
    let rows: Vec<(String, bool)> =
        query_as("select trimmed(t), has_hidden_characters(t) from unnest($1::text[]) with ordinality u (t, n) order by n")
            .bind(&texts)
            .fetch_all(world.pool())
            .await
            .unwrap();
    let mut different = String::new();
    for ((character, text), (trimmed, is_hidden)) in all.iter().zip(&texts).zip(rows) {
        if trimmed != text::trim(text) || is_hidden != text::is_control_or_format(*character) {
            write!(different, "{character:?} ").unwrap();
        }
    }
    assert_eq!(different, "", "the lists of migration 9 are of another version of Unicode");
}

#[tokio::test]
async fn every_statement_finds_the_holder_that_was_stored_untrimmed() {
    let world =
        World::with(cuponera_domain::book::BookRules { max_codes_per_user: Some(3), ..rules() }).await;
    let codes = world.insert_codes(4).await;
    world.give(&codes[0], " ana\u{a0}").await;
    world.locked(&codes[0], "ana").await;
    world.run_batch(world.unlock(&codes[0], "ana")).await.outcome.unwrap();
    world.store().validate(&world.redeem(&codes[0], "ana")).await.unwrap();
    world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    assert!(world.give(&codes[0], "ana").await.repeated);
    assert_eq!(world.give(&codes[1], "ana").await.user, " ana\u{a0}");
    assert_eq!(world.run_batch(world.random("ana")).await.outcome.unwrap().user, " ana\u{a0}");
    let limit = Err(Rejection::UserLimitReached { limit: 3 });
    assert_eq!(world.run_batch(world.random("ana")).await.outcome, limit);
    assert_eq!(listed(&world, "ana").await.len(), 3);
    assert_eq!(listed(&world, "ana").await, listed(&world, " ana\u{a0}").await);
    let free = codes.iter().find(|code| !["C000000", "C000001"].contains(&code.as_str())).unwrap();
    let rejected = world.run_batch(world.lock(free, "eva")).await.outcome.unwrap_err();
    assert!(matches!(rejected, Rejection::NotAssigned | Rejection::NotHolder), "{rejected:?}");
    world.assert_invariants().await;
}

#[tokio::test]
async fn an_id_of_its_own_never_finds_anothers_codes() {
    let world = World::new().await;
    let codes = world.insert_codes(8).await;
    world.give(&codes[0], "ana").await;
    world.give(&codes[1], " ana").await;
    world.give(&codes[2], "leo ").await;
    world.give(&codes[3], " leo").await;
    for (code, user) in [(&codes[1], "ana"), (&codes[3], "leo")] {
        assert_eq!(
            world.run_batch(world.lock(code, user)).await.outcome,
            Err(Rejection::NotHolder),
            "{user}"
        );
        let by_user = world.run_batch(world.redeem(code, user).by_end_user()).await.outcome;
        assert_eq!(by_user, Err(Rejection::not_found("coupon")), "{user}");
    }
    // If several untrimmed ids match, the first is found.
    world.locked(&codes[2], "leo").await;
    // An account created by a program of the previous version is another person with a different id.
    world.give(&codes[4], " ida").await;
    insert_account(&world, "ida").await;
    assert_eq!(world.run_batch(world.lock(&codes[4], "ida")).await.outcome, Err(Rejection::NotHolder));
    assert_eq!(world.give(&codes[5], "ida").await.user, "ida");
    assert_eq!(listed(&world, "ida").await, [codes[5].clone()]);
    // The ids of another business are separate.
    let elsewhere = world.lock(&codes[2], "leo").in_business(world.another_business().await);
    assert_eq!(world.run_batch(elsewhere).await.outcome, Err(Rejection::not_found("coupon")));
    world.assert_invariants().await;
}

/// An account as a program of the previous version creates it.
async fn insert_account(world: &World, user_id: &str) {
    let insert = "insert into user_account (id, business_id, email, password_hash, role, user_id)
                  values (gen_random_uuid(), $1, lower($2) || '@shop.test', 'none', 'USER', $2)";
    query(insert).bind(world.business.0).bind(user_id).execute(world.pool()).await.unwrap();
}

/// Otherwise the codes of another user would be found after the user's own codes are unassigned.
/// Invariant I-17.
#[tokio::test]
async fn whom_an_id_finds_does_not_change_when_codes_come_and_go() {
    let world = World::new().await;
    let codes = world.insert_codes(3).await;
    world.give(&codes[0], "ana").await;
    world.give(&codes[1], " ana").await;
    query("delete from coupon where code = $1").bind(&codes[0]).execute(world.pool()).await.unwrap();
    assert_eq!(world.run_batch(world.lock(&codes[1], "ana")).await.outcome, Err(Rejection::NotHolder));
    assert_eq!(world.give(&codes[2], "ana").await.user, "ana");
}

#[tokio::test]
async fn a_new_account_has_the_stored_id_of_its_holder_and_takes_no_email_that_is_found() {
    let world = World::new().await;
    let codes = world.insert_codes(1).await;
    world.give(&codes[0], "ana\u{200b}").await;
    assert_eq!(make_account(&world, "ana@shop.test", "ana").await.unwrap(), "ana\u{200b}");
    assert_eq!(make_account(&world, "ana-2@shop.test", "ana").await, Err(Rejection::UserIdTaken));
    insert_account(&world, "\u{feff}zoe").await;
    assert_eq!(make_account(&world, "ZOE@shop.test", "zoe-2").await, Err(Rejection::EmailTaken));
    let found = world.store().find_credential("Zoe@Shop.test").await.unwrap().unwrap();
    assert_eq!(found.email, "\u{feff}zoe@shop.test");
    assert_eq!(world.store().reset_password("zoe@shop.test", "new").await.unwrap().id, found.account);
}

#[tokio::test]
async fn the_limit_holds_for_both_spellings_together_under_a_race() {
    let limit = cuponera_domain::book::BookRules { max_codes_per_user: Some(5), ..rules() };
    let world = World::with(limit).await;
    world.insert_codes(40).await;
    world.run_batch(world.random(" ana ")).await.outcome.unwrap();
    let answers = race(20, 0..40, async |number| {
        world.run_batch(world.random(if number % 2 == 0 { "ana" } else { " ana " })).await.outcome
    })
    .await;
    assert_eq!(answers.iter().filter(|outcome| outcome.is_ok()).count(), 4);
    assert_eq!(listed(&world, "ana").await.len(), 5);
    world.assert_invariants().await;
}

#[tokio::test]
async fn what_was_stored_untrimmed_is_counted() {
    let world = World::new().await;
    let codes = world.insert_codes(6).await;
    let none = examine(world.database.url()).await.unwrap().untrimmed.unwrap();
    assert_eq!((none.user_ids, none.emails), (0, 0));
    for (code, user) in codes.iter().zip([" ana", "kai", " kai", "ma\u{200b}x", "plain", "año 2 ü"]) {
        world.give(code, user).await;
    }
    insert_account(&world, "\u{feff}zoe").await;
    let counted = examine(world.database.url()).await.unwrap().untrimmed.unwrap();
    assert_eq!((counted.user_ids, counted.accounts, counted.holders, counted.lost_user_ids), (4, 1, 3, 2));
    assert_eq!((counted.emails, counted.lost_emails), (1, 0));
    let noted: Vec<String> =
        query_scalar("select stored from untrimmed_user_id order by stored collate \"C\"")
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert_eq!(noted, [" ana", " kai", "ma\u{200b}x", "\u{feff}zoe"]);
}

//! Exports, statistics, and lists with filters.

use rand::RngExt;
use serde_json::json;

use super::jobs::job;
use super::{Operation, always, nothing};
use crate::history::About;
use crate::world::{holder, member, taker};

const KINDS: [&str; 3] = ["EVENTS", "REDEMPTIONS", "CODES"];

pub(super) const EXPORT: Operation = Operation {
    name: "export",
    weight: 1,
    ask: |client_state| {
        let kind = KINDS[client_state.random.random_range(0..KINDS.len())];
        let tenant = &client_state.world.tenants[client_state.tenant()];
        let books = [&tenant.held, &tenant.once, &tenant.free, &tenant.given, &tenant.made];
        let books: Vec<String> = books.into_iter().cloned().collect();
        let mut body = json!({"kind": kind});
        // The file of all codes of a business is one of its codes without their books.
        if kind == "CODES" || client_state.chance(0.5) {
            body["couponBookId"] = client_state.choose(&books).into();
        }
        let about = About { submits: true, ..About::default() };
        client_state.post("exports".to_owned(), body, about).by_service()
    },
    learns: job,
    agrees: always,
};

pub(super) const STATISTICS: Operation = Operation {
    name: "statistics",
    weight: 3,
    ask: |client_state| {
        let tenant = &client_state.world.tenants[client_state.tenant()];
        let business = tenant.id.clone();
        let books = [tenant.held.clone(), tenant.once.clone(), tenant.free.clone(), tenant.given.clone()];
        let book = client_state.choose(&books).filter(|_| client_state.random.random_bool(0.5));
        let path = book.as_ref().map_or("stats".to_owned(), |book| format!("coupon-books/{book}/stats"));
        let about = About { statistics_of: Some(book.unwrap_or(business)), ..About::default() };
        client_state.get(path, about).by_service()
    },
    learns: nothing,
    agrees: always,
};

pub(super) const LISTS: Operation = Operation {
    name: "lists",
    weight: 4,
    ask: |client_state| {
        let tenant = &client_state.world.tenants[client_state.tenant()];
        let (free, given) = (tenant.free.clone(), tenant.given.clone());
        let random = &mut client_state.random;
        let path = match random.random_range(0..8) {
            0 => format!("coupon-codes/book/{free}?userId={}", taker(random)),
            1 => format!("coupon-codes/book/{given}?prefix=GIVE-00&status=ASSIGNED"),
            2 => format!("coupon-codes/book/{given}?status=VOID"),
            3 => format!("events?userId={}", member(random)),
            4 => format!("events?couponBookId={free}&action=REVOKE"),
            5 => format!("redemptions?userId={}", holder(random.random_range(0..8))),
            6 => "coupons?q=HELD-00".to_owned(),
            _ => "distributions".to_owned(),
        };
        client_state.get(path, About::default()).by_service()
    },
    learns: nothing,
    agrees: always,
};

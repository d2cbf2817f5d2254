//! Reduces a failing run: fewer sizes, faults and clients, while the same oracle finds a violation.

use std::path::Path;

use crate::plan::Plan;
use crate::{Result, storm};

/// Number of attempts of each smaller run: a race may not occur in each.
const TRIES: usize = 3;

/// Returns the smallest plan found that still fails; reports each step.
pub async fn shrink(plan: &Plan, programs: &Path, mut report: impl FnMut(&str)) -> Result<Plan> {
    let Some(oracle) = storm(plan, programs).await?.caught_by() else {
        report("the run did not fail again");
        return Ok(plan.clone());
    };
    let mut smallest = plan.clone();
    // A successful step enables others, so all are tried again until none succeeds.
    while let Some(smaller) = first_that_fails(&smallest, programs, oracle).await? {
        report(&format!("still {oracle}: {}", command(&smaller)));
        smallest = smaller;
    }
    Ok(smallest)
}

async fn first_that_fails(plan: &Plan, programs: &Path, oracle: &str) -> Result<Option<Plan>> {
    for smaller in smaller_than(plan) {
        for _ in 0..TRIES {
            if storm(&smaller, programs).await?.caught_by() == Some(oracle) {
                return Ok(Some(smaller));
            }
        }
    }
    Ok(None)
}

/// Plans that are one step smaller, largest steps first.
fn smaller_than(plan: &Plan) -> Vec<Plan> {
    let mut smaller = Vec::new();
    if plan.sizes.len() > 1 {
        smaller.extend(plan.sizes.iter().map(|size| Plan { sizes: vec![*size], ..plan.clone() }));
    }
    let mut faults: Vec<_> =
        plan.sizes.iter().flat_map(|size| plan.strikes(*size)).map(|strike| strike.fault).collect();
    faults.sort_by_key(|fault| fault.name);
    faults.dedup_by_key(|fault| fault.name);
    for (place, _) in faults.iter().enumerate() {
        let mut fewer = faults.clone();
        fewer.remove(place);
        smaller.push(Plan { faults: Some(fewer), ..plan.clone() });
    }
    if plan.clients > 1 {
        smaller.push(Plan { clients: plan.clients / 2, ..plan.clone() });
    }
    smaller
}

/// The command that runs a plan.
pub fn command(plan: &Plan) -> String {
    let mut words =
        vec!["make storm".to_owned(), format!("SEED={}", plan.seed), format!("CLIENTS={}", plan.clients)];
    if let Some(previous) = &plan.previous {
        words.push(format!("PREVIOUS={}", previous.display()));
    } else if plan.bug.is_none()
        && let [size] = plan.sizes[..]
    {
        words.push(format!("SIZE={}", size.name()));
    }
    if let Some(faults) = &plan.faults {
        let names: Vec<&str> = faults.iter().map(|fault| fault.name).collect();
        words.push(format!("FAULTS={}", if names.is_empty() { "none".to_owned() } else { names.join(",") }));
    }
    if let Some(bug) = plan.bug {
        words.push(format!("BUG={}", bug.name));
    }
    words.join(" ")
}

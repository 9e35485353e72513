//! What the simulations share: a check of every byte before and after each recovery.

use std::fmt::Display;
use std::sync::Arc;

use corering_engine::Error;
use corering_engine::check::check_on;
use corering_engine::runtime::Host;

pub fn text(e: impl Display) -> String {
    e.to_string()
}

/// What a crash left must be no damage to the check, as it is none to an opening: but for a torn copy of a root record, which
/// cannot be told from a damaged one.
pub async fn check_what_a_crash_left(host: &Arc<dyn Host>) -> Result<(), String> {
    check_but_for(host, &|_| false).await
}

/// The same, where some damage is known to be there.
pub async fn check_but_for(host: &Arc<dyn Host>, known: &dyn Fn(&str) -> bool) -> Result<(), String> {
    let report = match check_on(Arc::clone(host), &mut |_| ()).await {
        Ok(report) => report,
        // Nothing was created yet.
        Err(Error::InvalidArgument { .. }) => return Ok(()),
        Err(error) => return Err(format!("checking what a crash left: {error}")),
    };
    let torn = |what: &str| what.starts_with("copy ") && what.ends_with("torn or damaged");
    match report.damages.iter().find(|damage| !torn(&damage.what) && !known(&damage.to_string())) {
        None => Ok(()),
        Some(damage) => Err(format!("a crash is taken for damage: {damage}\n{report}")),
    }
}

/// A database that was closed in order is whole.
pub async fn check_closed(host: &Arc<dyn Host>) -> Result<(), String> {
    let report = check_on(Arc::clone(host), &mut |_| ()).await.map_err(|e| format!("checking: {e}"))?;
    if report.is_clean() { Ok(()) } else { Err(format!("damage after a close in order:\n{report}")) }
}

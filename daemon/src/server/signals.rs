//! SIGTERM and SIGINT: the first asks the server to stop, the second ends the process where it stands.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::control::{Control, Event};
use crate::exit;

/// From here on signals go to `control`.
pub fn listen(control: Control) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("corering-signal".to_owned()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if stopping {
                tracing::warn!("a second signal: ending at once, without a checkpoint");
                std::process::exit(exit::SECOND_SIGNAL);
            }
            stopping = true;
            let why = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            control.send(Event::Stop { save: true, why });
        }
    })?;
    Ok(())
}

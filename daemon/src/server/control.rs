//! What the main thread is told: signals, SHUTDOWN, an engine that cannot go on.

use std::sync::mpsc;

use corering_engine::Error;

#[derive(Clone, Debug)]
pub enum Event {
    Stop { save: bool, why: &'static str },
    EngineFailed(Error),
}

/// The sending end, for everyone.
#[derive(Clone)]
pub struct Control(mpsc::Sender<Event>);

impl Control {
    pub fn new() -> (Control, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel();
        (Control(sender), receiver)
    }

    pub fn send(&self, event: Event) {
        // Nobody listens once the main thread is closing the engine; then there is nothing left to tell it.
        let _ = self.0.send(event);
    }
}

//! Who listens to which channels.
//!
//! Guards: a message is in the mailbox of each who listened when it was published, in the order of publishing; a listener
//! whose mailbox holds more than it may is given up, so that nobody who publishes waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::registry::ClientInfo;
use crate::command::glob;
use crate::resp::{Protocol, Reply};

type Listeners = HashMap<Vec<u8>, HashMap<u64, Arc<ClientInfo>>>;

#[derive(Default)]
struct Names {
    channels: Listeners,
    patterns: Listeners,
}

impl Names {
    fn of(&mut self, kind: Kind) -> &mut Listeners {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }
}

/// What one listens to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Channel,
    Pattern,
}

#[derive(Default)]
pub struct PubSub {
    names: RwLock<Names>,
    /// Channels and patterns that somebody listens to.
    count: AtomicUsize,
}

/// A message as each protocol has it, written when the first listener wants it.
struct Message<'a> {
    words: Vec<&'a [u8]>,
    written: [Option<Arc<[u8]>>; 2],
}

impl<'a> Message<'a> {
    fn new(words: Vec<&'a [u8]>) -> Message<'a> {
        Message { words, written: [None, None] }
    }

    fn bytes(&mut self, protocol: Protocol) -> Arc<[u8]> {
        let [resp2, resp3] = &mut self.written;
        let place = if protocol == Protocol::Resp3 { resp3 } else { resp2 };
        let words = &self.words;
        let written = place.get_or_insert_with(|| {
            let mut bytes = Vec::new();
            let mut reply = Reply::new(&mut bytes, protocol);
            reply.push(words.len());
            words.iter().for_each(|word| reply.bulk(word));
            bytes.into()
        });
        Arc::clone(written)
    }
}

impl PubSub {
    pub fn add(&self, kind: Kind, name: &[u8], client: &Arc<ClientInfo>) {
        let mut names = self.names.write();
        names.of(kind).entry(name.to_vec()).or_default().insert(client.id, Arc::clone(client));
        self.count.store(names.channels.len() + names.patterns.len(), Ordering::Release);
    }

    pub fn remove(&self, kind: Kind, name: &[u8], client: &ClientInfo) {
        let mut names = self.names.write();
        let all = names.of(kind);
        if let Some(listeners) = all.get_mut(name) {
            listeners.remove(&client.id);
            if listeners.is_empty() {
                all.remove(name);
            }
        }
        self.count.store(names.channels.len() + names.patterns.len(), Ordering::Release);
    }

    /// Whether nobody listens to anything.
    pub fn is_silent(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Put a message into the mailboxes of all who listen; returns how many they are. `overfull` is told of each mailbox with
    /// what it holds.
    pub fn publish(&self, channel: &[u8], message: &[u8], overfull: impl Fn(&ClientInfo, usize)) -> usize {
        if self.is_silent() {
            return 0;
        }
        let names = self.names.read();
        let mut count = 0;
        let mut tell = |listeners: &HashMap<u64, Arc<ClientInfo>>, mut message: Message<'_>| {
            for client in listeners.values().filter(|client| !client.is_killed()) {
                let waiting = client.mailbox.put(message.bytes(client.protocol()));
                overfull(client, waiting);
                count += 1;
            }
        };
        if let Some(listeners) = names.channels.get(channel) {
            tell(listeners, Message::new(vec![b"message", channel, message]));
        }
        for (pattern, listeners) in &names.patterns {
            if glob::matches(pattern, channel) {
                tell(listeners, Message::new(vec![b"pmessage", pattern, channel, message]));
            }
        }
        count
    }

    /// The channels that somebody listens to by name.
    pub fn channels(&self, pattern: Option<&[u8]>) -> Vec<Vec<u8>> {
        let names = self.names.read();
        let matching = |name: &&Vec<u8>| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        names.channels.keys().filter(matching).cloned().collect()
    }

    /// How many listen to a channel by its name.
    pub fn listeners(&self, channel: &[u8]) -> usize {
        self.names.read().channels.get(channel).map_or(0, HashMap::len)
    }

    /// Channels and patterns that somebody listens to.
    pub fn counts(&self) -> (usize, usize) {
        let names = self.names.read();
        (names.channels.len(), names.patterns.len())
    }
}

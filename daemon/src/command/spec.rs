//! What a command is, as data: dispatch, arity errors and all of COMMAND come from these rows.

use corering_engine::runtime::LocalFuture;

use super::errors::CommandError;
use crate::resp::Request;
use crate::server::Session;

pub type Outcome = Result<(), CommandError>;

/// How a command runs. Arity has been checked; arguments count from the command's own name.
#[derive(Clone, Copy)]
pub enum Handler {
    /// In one step; a write it starts may be answered later.
    Now(for<'a> fn(&'a mut Session, Request<'a>) -> Outcome),
    /// Over several turns of the executor. Everything the connection asked before has been answered.
    Later(for<'a> fn(&'a mut Session, Request<'a>) -> LocalFuture<'a, Outcome>),
    /// Only its subcommands run.
    Container,
}

macro_rules! bits {
    ($(#[$doc:meta])* $type:ident { $($(#[$item_doc:meta])* $name:ident = $bit:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $type(pub u32);

        impl $type {
            pub const NONE: $type = $type(0);
            $($(#[$item_doc])* pub const $name: $type = $type(1 << $bit);)*

            pub const fn or(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }

            pub const fn has(self, other: $type) -> bool {
                self.0 & other.0 != 0
            }

            /// Names of those set, in the order in which Redis lists them.
            pub fn names(self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.has($type::$name) { names.push($text); })*
                names
            }
        }
    };
}

bits! {
    /// A command's nature.
    Flags {
        WRITE = 0 => "write",
        READONLY = 1 => "readonly",
        DENYOOM = 2 => "denyoom",
        ADMIN = 3 => "admin",
        NOSCRIPT = 4 => "noscript",
        LOADING = 5 => "loading",
        STALE = 6 => "stale",
        FAST = 7 => "fast",
        NO_AUTH = 8 => "no_auth",
        NO_ASYNC_LOADING = 9 => "no_async_loading",
        NO_MULTI = 10 => "no_multi",
        ALLOW_BUSY = 11 => "allow_busy",
        PUBSUB = 12 => "pubsub",
        SKIP_SLOWLOG = 13 => "skip_slowlog",
        SKIP_MONITOR = 14 => "skip_monitor",
        NO_MANDATORY_KEYS = 15 => "no_mandatory_keys",
        MOVABLEKEYS = 16 => "movablekeys",
    }
}

bits! {
    /// The groups of commands that access lists name.
    Categories {
        KEYSPACE = 0 => "@keyspace",
        READ = 1 => "@read",
        WRITE = 2 => "@write",
        STRING = 3 => "@string",
        ADMIN = 4 => "@admin",
        FAST = 5 => "@fast",
        SLOW = 6 => "@slow",
        DANGEROUS = 7 => "@dangerous",
        CONNECTION = 8 => "@connection",
        PUBSUB = 9 => "@pubsub",
        LOCK = 10 => "@lock",
        TRANSACTION = 11 => "@transaction",
        SCRIPTING = 12 => "@scripting",
    }
}

bits! {
    /// What a command does with a key.
    Access {
        RO = 0 => "RO",
        RW = 1 => "RW",
        OW = 2 => "OW",
        RM = 3 => "RM",
        ACCESS = 4 => "access",
        UPDATE = 5 => "update",
        INSERT = 6 => "insert",
        DELETE = 7 => "delete",
        VARIABLE = 8 => "variable_flags",
    }
}

/// A row of keys among a command's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    pub access: Access,
    pub first: usize,
    /// The last key's distance from the first, or, below zero, from the end of the arguments.
    pub last: i64,
    pub step: usize,
    pub notes: Option<&'static str>,
    /// The first argument says how many keys follow it.
    pub counted: bool,
}

impl Keys {
    pub const fn one(first: usize, access: Access) -> Keys {
        Keys { access, first, last: 0, step: 1, notes: None, counted: false }
    }

    /// All arguments from the first on, or each `step`th.
    pub const fn all(step: usize, access: Access) -> Keys {
        Keys { access, first: 1, last: -1, step, notes: None, counted: false }
    }

    /// As many as the argument `count` says, behind it.
    pub const fn counted(count: usize, access: Access) -> Keys {
        Keys { access, first: count, last: 0, step: 1, notes: None, counted: true }
    }

    pub const fn noted(mut self, notes: &'static str) -> Keys {
        self.notes = Some(notes);
        self
    }

    /// The places of the keys among a command's arguments.
    pub fn positions(&self, whole: Request<'_>) -> impl Iterator<Item = usize> + use<> {
        let argc = whole.len();
        if self.counted {
            let count = std::str::from_utf8(whole.arg(self.first)).ok().and_then(|text| text.parse().ok());
            let last = self.first.saturating_add(count.unwrap_or(0));
            return (self.first + 1..=last.min(argc.saturating_sub(1))).step_by(1);
        }
        let last = if self.last >= 0 {
            self.first + self.last as usize
        } else {
            argc.saturating_sub(self.last.unsigned_abs() as usize)
        };
        (self.first..=last).step_by(self.step)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    String,
    Generic,
    Connection,
    Server,
    Pubsub,
    Lock,
    Transactions,
    Scripting,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Group::String => "string",
            Group::Generic => "generic",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Pubsub => "pubsub",
            Group::Lock => "lock",
            Group::Transactions => "transactions",
            Group::Scripting => "scripting",
        }
    }
}

/// One command or subcommand.
pub struct Command {
    pub name: &'static str,
    /// Arguments with the name itself; below zero, at least so many.
    pub arity: i32,
    pub flags: Flags,
    /// Beyond those that the flags imply.
    pub categories: Categories,
    pub keys: &'static [Keys],
    pub group: Group,
    pub since: &'static str,
    pub summary: &'static str,
    pub complexity: &'static str,
    /// What HELP and COMMAND DOCS show behind the name.
    pub usage: &'static str,
    pub tips: &'static [&'static str],
    pub subcommands: &'static [Command],
    pub handler: Handler,
}

impl Command {
    pub const fn new(name: &'static str, arity: i32, group: Group, since: &'static str, handler: Handler) -> Command {
        Command {
            name,
            arity,
            flags: Flags::NONE,
            categories: Categories::NONE,
            keys: &[],
            group,
            since,
            summary: "",
            complexity: "O(1)",
            usage: "",
            tips: &[],
            subcommands: &[],
            handler,
        }
    }

    pub const fn flags(mut self, flags: Flags) -> Command {
        self.flags = flags;
        self
    }

    pub const fn categories(mut self, categories: Categories) -> Command {
        self.categories = categories;
        self
    }

    pub const fn keys(mut self, keys: &'static [Keys]) -> Command {
        self.keys = keys;
        self
    }

    pub const fn summary(mut self, summary: &'static str) -> Command {
        self.summary = summary;
        self
    }

    pub const fn complexity(mut self, complexity: &'static str) -> Command {
        self.complexity = complexity;
        self
    }

    pub const fn usage(mut self, usage: &'static str) -> Command {
        self.usage = usage;
        self
    }

    pub const fn tips(mut self, tips: &'static [&'static str]) -> Command {
        self.tips = tips;
        self
    }

    pub const fn subcommands(mut self, subcommands: &'static [Command]) -> Command {
        self.subcommands = subcommands;
        self
    }

    pub fn takes(&self, argc: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { argc >= least } else { argc == least }
    }

    /// Categories with those that flags imply.
    pub fn all_categories(&self) -> Categories {
        let mut all = self.categories;
        if self.flags.has(Flags::WRITE) {
            all = all.or(Categories::WRITE);
        }
        if self.flags.has(Flags::READONLY) && self.group != Group::Scripting {
            all = all.or(Categories::READ);
        }
        if self.flags.has(Flags::ADMIN) {
            all = all.or(Categories::ADMIN).or(Categories::DANGEROUS);
        }
        all.or(if self.flags.has(Flags::FAST) { Categories::FAST } else { Categories::SLOW })
    }

    /// First key, last key and step, as clients of old read them.
    pub fn key_range(&self) -> (i64, i64, i64) {
        let Some(first) = self.keys.first().filter(|keys| !keys.counted) else { return (0, 0, 0) };
        let last = self.keys.iter().map(|keys| if keys.last < 0 { keys.last } else { keys.first as i64 + keys.last });
        let last = last.reduce(|a, b| if a < 0 { a } else { a.max(b) }).unwrap_or(0);
        (first.first as i64, last, first.step as i64)
    }
}

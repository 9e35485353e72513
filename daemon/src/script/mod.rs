//! Scripts in Lua 5.1, in a box: what EVAL runs.
//!
//! Guards: a script reaches nothing but its keys, its arguments, pure functions of strings, tables and numbers, and the commands that
//! `call` lets it run; it leaves nothing behind for the next run; it ends after so many instructions, and with so much memory.
//! Does not: know what a command is, or a database.

mod cache;
mod convert;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, LuaString, MultiValue, StdLib, Table, VmState};

pub use cache::{Scripts, Sha};

use crate::resp::Value;

/// Instructions of the machine: about a tenth of a second. A script holds up the other clients of its thread.
const INSTRUCTIONS_MAX: u64 = 20_000_000;
/// What a command counts as.
const INSTRUCTIONS_OF_CALL: u64 = 500;
/// Instructions between two looks at how many there were.
const LOOK_EVERY: u32 = 10_000;
/// Memory of a thread's machine, with the scripts that it has compiled.
const MEMORY_MAX: usize = 64 << 20;
/// With which Lua's compiled chunks begin; those can do anything, and are no scripts.
const COMPILED_MARK: u8 = 0x1b;
/// Compiled scripts that are kept.
const COMPILED_MAX: usize = 512;

/// Why a script has no answer.
#[derive(Clone, PartialEq, Debug)]
pub enum Failure {
    /// What the client is told, from the error's code on.
    Error(Vec<u8>),
    /// `call` wanted an end.
    Stopped,
}

/// `call` wants the script to end; nothing that it answers counts.
pub struct Stop;

/// Runs a command for the script. An error that the command answers is a [`Value::Error`].
pub type Call<'a> = dyn FnMut(Vec<Vec<u8>>) -> Result<Value, Stop> + 'a;

/// What is run, on what.
pub struct Script<'a> {
    pub sha: &'a Sha,
    pub source: &'a [u8],
    pub keys: Vec<&'a [u8]>,
    pub args: Vec<&'a [u8]>,
}

/// One thread's machine.
struct Machine {
    lua: Lua,
    environment: Function,
    pcall: Function,
    compiled: RefCell<HashMap<Sha, Function>>,
}

thread_local! {
    static MACHINE: RefCell<Option<Rc<Machine>>> = const { RefCell::new(None) };
}

/// Run a script in this thread, to its end.
pub fn run(script: &Script<'_>, call: &mut Call<'_>) -> Result<Value, Failure> {
    let machine = machine().map_err(|error| Failure::Error(told(&error)))?;
    let ran = machine.run(script, call);
    if machine.lua.used_memory() > MEMORY_MAX / 2 {
        // What this one took is given back whole.
        MACHINE.set(None);
    }
    ran
}

/// Whether a script can be compiled; what the client is told if not.
pub fn check(sha: &Sha, source: &[u8]) -> Result<(), Vec<u8>> {
    machine().and_then(|machine| machine.compile(sha, source).map(drop)).map_err(|error| compile_error(&error))
}

/// Compiled scripts are forgotten, by this thread.
pub fn forget() {
    MACHINE.set(None);
}

fn machine() -> mlua::Result<Rc<Machine>> {
    MACHINE.with_borrow_mut(|place| {
        if let Some(machine) = place {
            return Ok(Rc::clone(machine));
        }
        let machine = Rc::new(Machine::new()?);
        *place = Some(Rc::clone(&machine));
        Ok(machine)
    })
}

impl Machine {
    fn new() -> mlua::Result<Machine> {
        let lua = Lua::new_with(StdLib::STRING | StdLib::TABLE | StdLib::MATH, LuaOptions::default())?;
        lua.set_memory_limit(MEMORY_MAX)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let (environment, pcall) = prelude.eval()?;
        Ok(Machine { lua, environment, pcall, compiled: RefCell::default() })
    }

    /// Count instructions from now on. A script that has had its share is ended at each further instruction, so that it cannot catch that
    /// for ever.
    fn count_instructions(&self, used: &Rc<Cell<u64>>) -> mlua::Result<()> {
        let used = Rc::clone(used);
        self.lua.set_hook(HookTriggers::new().every_nth_instruction(LOOK_EVERY), move |lua, _| {
            used.set(used.get() + u64::from(LOOK_EVERY));
            if used.get() < INSTRUCTIONS_MAX {
                return Ok(VmState::Continue);
            }
            lua.set_hook(HookTriggers::new().every_nth_instruction(1), |_, _| Err(too_long()))?;
            Err(too_long())
        })
    }

    fn compile(&self, sha: &Sha, source: &[u8]) -> mlua::Result<Function> {
        if let Some(compiled) = self.compiled.borrow().get(sha) {
            return Ok(compiled.clone());
        }
        if source.first() == Some(&COMPILED_MARK) {
            return Err(mlua::Error::RuntimeError("it is not a text".to_owned()));
        }
        let compiled = self.lua.load(source).set_name("@user_script").set_mode(ChunkMode::Text).into_function()?;
        let mut all = self.compiled.borrow_mut();
        if all.len() >= COMPILED_MAX {
            all.clear();
        }
        all.insert(sha.clone(), compiled.clone());
        Ok(compiled)
    }

    fn run(&self, script: &Script<'_>, call: &mut Call<'_>) -> Result<Value, Failure> {
        let compiled =
            self.compile(script.sha, script.source).map_err(|error| Failure::Error(compile_error(&error)))?;
        let used = Rc::new(Cell::new(0));
        self.count_instructions(&used).map_err(|error| Failure::Error(told(&error)))?;
        let mut stopped = false;
        let ran = self.lua.scope(|scope| {
            let run = scope.create_function_mut(|lua, args: MultiValue| {
                let problem = |text: &[u8]| -> mlua::Result<(mlua::Value, mlua::Value)> {
                    // Above this function is that of the prelude, and above that the script's.
                    let line = lua.inspect_stack(2, |frame| frame.current_line()).flatten();
                    Ok((mlua::Value::Nil, convert::problem(lua, text, line)?))
                };
                used.set(used.get() + INSTRUCTIONS_OF_CALL);
                if stopped {
                    return problem(b"ERR the script has to end");
                }
                let words = match convert::words(&args) {
                    Ok(words) => words,
                    Err(why) => return problem(why.as_bytes()),
                };
                match call(words) {
                    Ok(Value::Error(text)) => problem(&text),
                    Ok(value) => Ok((convert::to_lua(lua, &value)?, mlua::Value::Nil)),
                    Err(Stop) => {
                        stopped = true;
                        problem(b"ERR the script has to end")
                    }
                }
            })?;
            let sha1hex =
                self.lua.create_function(|lua, text: LuaString| lua.create_string(Sha::of(&text.as_bytes()).hex()))?;
            let log = self.lua.create_function(|_, (level, text): (f64, LuaString)| {
                tracing::debug!(level, text = %String::from_utf8_lossy(&text.as_bytes()), "a script says");
                Ok(())
            })?;
            let list = |items: &[&[u8]]| -> mlua::Result<Table> {
                self.lua.create_sequence_from(
                    items.iter().map(|item| self.lua.create_string(item)).collect::<mlua::Result<Vec<_>>>()?,
                )
            };
            let given = (run, sha1hex, log, list(&script.keys)?, list(&script.args)?);
            let environment: Table = self.environment.call(given)?;
            compiled.set_environment(environment)?;
            self.pcall.call::<(bool, mlua::Value)>(compiled.clone())
        });
        if stopped {
            return Err(Failure::Stopped);
        }
        match ran {
            Ok((true, value)) => convert::to_reply(&value, 0).map_err(|why| Failure::Error(why.into_bytes())),
            Ok((false, raised)) => Err(Failure::Error(convert::raised(&raised, script.sha))),
            Err(error) => Err(Failure::Error(told(&error))),
        }
    }
}

fn too_long() -> mlua::Error {
    mlua::Error::RuntimeError(format!("the script ran for more than {INSTRUCTIONS_MAX} instructions"))
}

fn told(error: &mlua::Error) -> Vec<u8> {
    [b"ERR ".as_slice(), &convert::one_line(error.to_string().as_bytes())].concat()
}

fn compile_error(error: &mlua::Error) -> Vec<u8> {
    let text = match error {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    [b"ERR Error compiling script (new function): ".as_slice(), &convert::one_line(text.as_bytes())].concat()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

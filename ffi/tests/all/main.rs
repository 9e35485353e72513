//! The C ABI: the header, the symbols, and programs in C and C++. One program, because linking the engine for each module costs
//! more than the tests; what must be alone in a process is a program that these start.

mod crash;
mod header;
mod history;
mod matrix;
mod programs;
mod source;
mod support;
mod symbols;

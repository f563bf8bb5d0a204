//! What users are told: whether all is well, by somebody who does not share the fate of what it speaks of.
//!
//! A status page is a process of its own, on addresses of its own. It needs neither the store, nor the directory, nor a
//! gateway to speak; it only asks them, as users do and past them, and [`Board`] judges from what they answered and when.
//! It says that all is well only when it knows so: every part answered lately, users' own way works for every part of
//! the store, sessions are back, nothing is left undelivered, and all of this has lasted. What it can't tell it calls
//! unknown, and it says what is wrong before it says what it doesn't know.
//!
//! [`false_all_clear`] is the promise that it is held to: a pure function of what was said and what was so.

mod board;
mod promise;
#[cfg(test)]
mod tests;

pub use board::{Board, BoardOptions, Rule, Said, Statement};
pub use promise::{Breach, Heard, Truth, false_all_clear};

//! Tests of the whole machine: by example, against a model, across crashes and snapshots, and with plants.

mod contacts;
mod durability;
mod examples;
mod groups;
mod model;
mod planted;
mod support;

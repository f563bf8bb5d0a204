//! The words of expressions: classes, selectors, and the figures with their units.

/// The classes of operations, in the words of the history.
pub const CLASSES: &[&str] = &[
    "sign_up", "log_in", "send", "deliver", "sync", "read", "group", "contacts", "open", "receipt", "presence", "put",
    "request",
];

/// The fault that stands for each of them, the worst for all.
pub const EVERY_FAULT: &str = "every";

/// The keys that a selector may use.
pub const SELECTORS: &[&str] = &["zone", "cohort", "system", "fault"];

/// What a figure's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share from 0 to 1, written as `99.9%` or `0.999`.
    Ratio,
    /// A time, held in milliseconds.
    Millis,
    /// A number without a unit.
    Count,
}

/// Where a figure can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// While the run goes on, over a sliding stretch (`steady_state.require`), and over the whole run (`expect.slo`).
    Service,
    /// Of a disturbance (`expect.recovery`).
    Recovery,
}

/// A figure that an expression can name.
#[derive(Debug, PartialEq, Eq)]
pub struct Figure {
    /// As written.
    pub name: &'static str,
    /// What its value is.
    pub unit: Unit,
    /// Where it can be asked for.
    pub scope: Scope,
    /// What it is, in one sentence.
    pub about: &'static str,
}

const fn figure(name: &'static str, unit: Unit, scope: Scope, about: &'static str) -> Figure {
    Figure {
        name,
        unit,
        scope,
        about,
    }
}

/// All figures.
pub const FIGURES: &[Figure] = &[
    figure(
        "success",
        Unit::Ratio,
        Scope::Service,
        "operations that succeeded, as a share of those that ended",
    ),
    figure(
        "p50",
        Unit::Millis,
        Scope::Service,
        "median response time, from the intended send",
    ),
    figure(
        "p90",
        Unit::Millis,
        Scope::Service,
        "response time that 90 % stay under, from the intended send",
    ),
    figure(
        "p99",
        Unit::Millis,
        Scope::Service,
        "response time that 99 % stay under, from the intended send",
    ),
    figure(
        "p999",
        Unit::Millis,
        Scope::Service,
        "response time that 99.9 % stay under, from the intended send",
    ),
    figure(
        "impact",
        Unit::Millis,
        Scope::Recovery,
        "from the fault's effect to the first error or breach of the latency band that a client saw",
    ),
    figure(
        "detect",
        Unit::Millis,
        Scope::Recovery,
        "from the fault's effect to the system's first reaction, such as a new term",
    ),
    figure(
        "failover",
        Unit::Millis,
        Scope::Recovery,
        "from the fault's effect to a new leader or owner that serves, asked of the system itself",
    ),
    figure(
        "first_ok",
        Unit::Millis,
        Scope::Recovery,
        "from the fault's effect to the first success that needed the failed part",
    ),
    figure(
        "steady",
        Unit::Millis,
        Scope::Recovery,
        "from the fault's effect to the start of the first stretch of `hold` inside the band of the steady phase",
    ),
    figure(
        "first_ok_after_heal",
        Unit::Millis,
        Scope::Recovery,
        "from the heal to the first success that needed the failed part",
    ),
    figure(
        "steady_after_heal",
        Unit::Millis,
        Scope::Recovery,
        "from the heal to the start of the first stretch of `hold` inside the band of the steady phase",
    ),
    figure(
        "drained",
        Unit::Millis,
        Scope::Recovery,
        "from the heal until everything acknowledged has been shown to every device that is owed it",
    ),
    figure(
        "sessions_back",
        Unit::Millis,
        Scope::Recovery,
        "from the heal until 99 % of the sessions of before are connected again",
    ),
    figure(
        "redundant",
        Unit::Millis,
        Scope::Recovery,
        "from the heal until every replica has caught up",
    ),
    figure(
        "worst_gap",
        Unit::Millis,
        Scope::Recovery,
        "longest stretch between two successes of the constant-spaced probe that needed the failed part",
    ),
    figure(
        "downtime",
        Unit::Millis,
        Scope::Recovery,
        "sum of all time outside the band",
    ),
    figure(
        "relapses",
        Unit::Count,
        Scope::Recovery,
        "how often the band was left again after it was reached",
    ),
    figure(
        "goodput",
        Unit::Ratio,
        Scope::Recovery,
        "successes a second from the fault's effect to its heal, as a share of those in the steady phase",
    ),
    figure(
        "lost_user_seconds",
        Unit::Count,
        Scope::Recovery,
        "area between the goodput before and the goodput during, in user-seconds",
    ),
];

/// The figure called `name`.
#[must_use]
pub fn figure_named(name: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.name == name)
}

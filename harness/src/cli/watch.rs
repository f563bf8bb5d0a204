//! A run on the terminal while it goes on: two live lines where a person watches, plain lines elsewhere.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _};

use firedrill_proto::firedrill::v1::{self as wire, run_event::Event};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Without a terminal, a line about the load comes this often, in milliseconds of the run.
const PLAIN_EVERY_MS: u64 = 5_000;
/// The phases, in order, as a person reads them.
const PHASES: &[(&str, &str)] = &[
    ("prepare", "prepare"),
    ("warm_up", "warm-up"),
    ("steady", "steady"),
    ("disturb", "disturb"),
    ("settle", "settle"),
    ("drain", "drain"),
    ("fence", "fence"),
    ("read_back", "read-back"),
    ("tear_down", "tear-down"),
];

/// Shows a run's events.
pub(super) struct Watch {
    screen: Screen,
    phase: String,
    active: BTreeMap<String, String>,
}

enum Screen {
    Live {
        bars: MultiProgress,
        phases: ProgressBar,
        load: ProgressBar,
    },
    Plain {
        next_ms: u64,
    },
    Silent,
}

impl Watch {
    /// For a person at a terminal (on standard error), or for a log.
    pub(super) fn new(terminal: bool) -> Self {
        let screen = if terminal {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            let line = |template: &str| {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                bar
            };
            let (phases, load) = (line("{spinner:.green} {msg}"), line("  {msg}"));
            phases.enable_steady_tick(std::time::Duration::from_millis(120));
            Screen::Live { bars, phases, load }
        } else {
            Screen::Plain { next_ms: 0 }
        };
        Self {
            screen,
            phase: String::new(),
            active: BTreeMap::new(),
        }
    }

    /// Shows nothing, for formats that a machine reads.
    pub(super) fn silent() -> Self {
        Self {
            screen: Screen::Silent,
            phase: String::new(),
            active: BTreeMap::new(),
        }
    }

    /// Takes the next event.
    pub(super) fn on_event(&mut self, event: &wire::RunEvent) {
        match &event.event {
            Some(Event::Phase(phase)) => {
                self.phase.clone_from(&phase.phase);
                if !matches!(self.screen, Screen::Live { .. }) {
                    self.say(event.at_ms, &format!("phase {}", phase.phase));
                }
                self.redraw(event.at_ms);
            }
            Some(Event::Fault(fault)) => {
                match fault.change.as_str() {
                    "installed" | "indeterminate" => {
                        self.active.insert(fault.id.clone(), fault.targets.join(" "));
                    }
                    "healed" | "heal_failed" | "skipped" => {
                        self.active.remove(&fault.id);
                    }
                    _ => {}
                }
                if !matches!(fault.change.as_str(), "requested" | "heal_requested") {
                    self.say(event.at_ms, &fault_line(fault));
                }
                self.redraw(event.at_ms);
            }
            Some(Event::Progress(progress)) => self.on_progress(event.at_ms, progress),
            Some(Event::Note(note)) => {
                let mark = if note.level == "warning" { "warning: " } else { "" };
                self.say(event.at_ms, &format!("{mark}{}", note.text));
            }
            Some(Event::Ended(_)) => self.close(),
            None => {}
        }
    }

    /// Leaves the screen as it should stay.
    pub(super) fn close(&mut self) {
        if let Screen::Live { phases, load, .. } = &self.screen {
            phases.finish_and_clear();
            load.finish_and_clear();
        }
    }

    fn on_progress(&mut self, at_ms: u64, progress: &wire::Progress) {
        let line = load_line(progress);
        match &mut self.screen {
            Screen::Live { load, .. } => load.set_message(line),
            Screen::Plain { next_ms } if at_ms >= *next_ms => {
                *next_ms = at_ms + PLAIN_EVERY_MS;
                let line = format!("{} faults active, {line}", progress.faults_active);
                self.say(at_ms, &line);
            }
            Screen::Plain { .. } | Screen::Silent => {}
        }
        self.redraw(at_ms);
    }

    fn redraw(&self, at_ms: u64) {
        let Screen::Live { phases, .. } = &self.screen else {
            return;
        };
        let mut line = format!("{:>6.1} s  ", seconds(at_ms));
        for (name, shown) in PHASES {
            let _ = if *name == self.phase {
                write!(line, "[{shown}] ")
            } else {
                write!(line, "{shown} ")
            };
        }
        for (id, targets) in &self.active {
            let _ = write!(line, " ⚡{id} {}", shortened(targets));
        }
        phases.set_message(line);
    }

    fn say(&self, at_ms: u64, text: &str) {
        let line = format!("{:>8.3} s  {text}", seconds(at_ms));
        match &self.screen {
            // A closed standard error is no reason to stop a run.
            Screen::Live { bars, .. } => drop(bars.println(line)),
            Screen::Plain { .. } => drop(writeln!(std::io::stderr(), "{line}")),
            Screen::Silent => {}
        }
    }
}

fn fault_line(fault: &wire::FaultChanged) -> String {
    let evidence = if fault.evidence.is_empty() {
        String::new()
    } else {
        format!(": {}", fault.evidence)
    };
    format!(
        "fault {} {} on {}{evidence}",
        fault.id,
        fault.change.replace('_', " "),
        shortened(&fault.targets.join(" "))
    )
}

fn load_line(progress: &wire::Progress) -> String {
    let mut line = String::new();
    for class in &progress.classes {
        let _ = write!(line, "{} ", class.class);
        if class.success_ratio.is_nan() {
            line.push_str("silent");
        } else {
            let _ = write!(line, "{:.1} %", class.success_ratio * 100.0);
        }
        if !class.p99_ms.is_nan() {
            let _ = write!(line, " p99 {:.0} ms", class.p99_ms);
        }
        let _ = write!(line, " ok {}", class.ok);
        for (count, name) in [
            (class.failed, "failed"),
            (class.unknown, "unknown"),
            (class.shed, "shed"),
        ] {
            if count > 0 {
                let _ = write!(line, " {name} {count}");
            }
        }
        line.push_str(" | ");
    }
    let _ = write!(
        line,
        "backlog {} | sessions {}/{}",
        progress.backlog, progress.sessions_connected, progress.sessions
    );
    line
}

fn shortened(text: &str) -> String {
    const MAX: usize = 60;
    if text.chars().count() <= MAX {
        return text.to_owned();
    }
    text.chars().take(MAX - 1).chain(std::iter::once('…')).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown to the millisecond, of a run of hours at most"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_not_ok_and_what_is_silent() {
        let class = |class: &str, success_ratio, failed| wire::ClassProgress {
            class: class.to_owned(),
            ok: 10,
            failed,
            unknown: 0,
            shed: 0,
            success_ratio,
            p99_ms: f64::NAN,
        };
        let progress = wire::Progress {
            classes: vec![class("send", 0.5, 10), class("deliver", f64::NAN, 0)],
            faults_active: 1,
            backlog: 7,
            sessions_connected: 3,
            sessions: 4,
        };
        let line = load_line(&progress);
        assert_eq!(
            line,
            "send 50.0 % ok 10 failed 10 | deliver silent ok 10 | backlog 7 | sessions 3/4"
        );
    }

    #[test]
    fn long_lists_of_targets_are_cut_visibly() {
        let short = shortened(&"n1->n2 ".repeat(30));
        assert_eq!(short.chars().count(), 60);
        assert!(short.ends_with('…'));
    }
}

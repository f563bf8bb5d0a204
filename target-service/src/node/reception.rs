//! Where calls of clients come in: to the gate, and from there, in their turn, to what carries them out.

use std::time::Duration;

use firedrill_proto::chat::v1::{AdmissionStatus, ClassStatus, RampLoginsRequest, RampLoginsResponse};

use super::{
    admission::{Next, Shed, Why},
    api::{Answer, Reason, Refusal},
    inbox::{Inbox, Queued},
    requests::Request,
    run::Node,
};

/// Calls that one turn carries out, so that what it makes durable at once stays bounded.
const SERVED_MAX: usize = 1024;

impl Node {
    /// Takes a call in. Operators don't wait behind clients, and whoever is at the wrong node is told so at once.
    pub(super) fn receive(&mut self, queued: Queued, inbox: &Inbox) {
        let waits = queued.request.class().filter(|_| self.leads(&queued.request));
        let Some(class) = waits else {
            return self.call(queued, inbox);
        };
        // Before the gate: a log-in that is not let in is no work.
        if let Request::OpenSession(asked, _) = &queued.request
            && let Err(refusal) = self.may_log_in(self.routes.owner(asked.user))
        {
            self.refused += 1;
            return queued.request.refuse(refusal);
        }
        let now = self.clock.now();
        for shed in self.gate.offer(class, queued.deadline, queued, now) {
            self.shed(shed);
        }
        self.serve(inbox);
    }

    /// Carries out the calls whose turn has come.
    pub(super) fn serve(&mut self, inbox: &Inbox) {
        for _ in 0..SERVED_MAX {
            match self.gate.next(self.clock.now()) {
                // The deadline is what such a call is refused for.
                Some(Next::Serve(queued) | Next::Expired(queued)) => self.call(queued, inbox),
                None => return,
            }
        }
    }

    /// Has everybody who waits told that this node stops.
    pub(super) fn dismiss(&mut self, inbox: &Inbox) {
        for queued in self.gate.drain() {
            self.call(queued, inbox);
        }
    }

    fn shed(&mut self, shed: Shed<Queued>) {
        let _entered = shed.work.span.enter();
        let shard = shed
            .work
            .request
            .shard(self.routes.shards())
            .and_then(|shard| self.shards.get(&shard));
        self.refused += 1;
        // Opening the app is to work while nothing else does: it makes do with what there is.
        let request = match (shed.work.request, shard) {
            (Request::Open(request, to), Some(shard)) => return shard.open_stale(&request, to),
            (request, _) => request,
        };
        let class = shed.class.as_str();
        let message = match shed.why {
            Why::Full(work) => format!("too much waits already, {work:?} of work: {class} is shed"),
            Why::TooLate(wait) => format!("it would take {wait:?}, which is longer than it is waited for"),
        };
        let refusal = match shard {
            Some(shard) => shard.refusal(Reason::Overloaded, message),
            None => Refusal::new(Reason::Overloaded, message),
        };
        request.refuse(refusal.after(shed.retry_after));
    }

    fn leads(&self, request: &Request) -> bool {
        let shard = request
            .shard(self.routes.shards())
            .and_then(|shard| self.shards.get(&shard));
        shard.is_some_and(|shard| shard.led.is_some()) && !self.is_stopping()
    }

    /// Whether the limit lets another log-in in.
    fn may_log_in(&mut self, shard: u32) -> Answer<()> {
        if !self.config.protections.login_limit {
            return Ok(());
        }
        let now = self.clock.now();
        self.logins.take(now).map_err(|delay| {
            let message = format!(
                "log-ins are limited to {:.1} a second at this node now",
                self.logins.rate(now)
            );
            Refusal {
                shard: Some(shard),
                epoch: self.routes.epoch(),
                ..Refusal::new(Reason::Overloaded, message).after(delay)
            }
        })
    }

    /// An operator has the log-in limit grow from one rate to another.
    pub(super) fn ramp_logins(&mut self, request: &RampLoginsRequest) -> RampLoginsResponse {
        let now = self.clock.now();
        let per_second = self.logins.rate(now);
        let rates = (request.from_per_second, request.to_per_second);
        self.logins.ramp(rates, Duration::from_millis(request.over_ms), now);
        tracing::info!(
            request.from_per_second,
            request.to_per_second,
            request.over_ms,
            "log-ins ramp"
        );
        RampLoginsResponse { per_second }
    }

    /// What the gate does, as status shows it.
    pub(super) fn admission(&self) -> AdmissionStatus {
        let on = &self.config.protections;
        let switches = [
            ("deadlines", on.deadlines),
            ("priorities", on.priorities),
            ("admission", on.admission),
            ("login_limit", on.login_limit),
            ("fanout", on.fanout),
        ];
        let classes = self.gate.counts().map(|(class, count, waiting)| ClassStatus {
            class: class.as_str().to_owned(),
            waiting: waiting as u64,
            served: count.served,
            shed: count.shed,
            expired: count.expired,
        });
        AdmissionStatus {
            per_second: self.config.capacity.per_second,
            queue_ms: u64::try_from(self.gate.work().as_millis()).unwrap_or(u64::MAX),
            queue_ms_max: self.config.capacity.queue_ms,
            classes: classes.collect(),
            logins_per_second: self.logins.rate(self.clock.now()),
            switched_off: switches.iter().filter(|it| !it.1).map(|it| it.0.to_owned()).collect(),
        }
    }
}

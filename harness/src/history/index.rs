//! The indexes of a system's part of a history, built once, n log n.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Class, Membership, Outcome, SessionChange, Subject,
    items::{Fate, Item, Logical},
    view::{Delivery, DeviceEvent, SystemView},
};
use crate::base::Nanos;

impl SystemView {
    pub(super) fn index(&mut self) {
        self.attempts.sort_by_key(|o| (o.done, o.id, o.attempt));
        self.shown.sort_by_key(|e| e.at);
        self.noticed.sort_by_key(|e| e.at);
        self.told.sort_by_key(|e| (e.began, e.ended));
        self.sessions.sort_by_key(|e| e.at);
        self.observed.sort_by_key(|e| e.at);
        self.announced.sort_by_key(|e| (e.asked, e.at));
        self.processes.sort_by_key(|e| e.at);
        self.reads.sort_by_key(|e| (e.began, e.ended));
        self.index_operations();
        self.index_sightings();
        self.index_groups();
        self.index_devices();
        self.index_deliveries();
    }

    fn index_operations(&mut self) {
        let mut operations: BTreeMap<(Class, u64), Logical> = BTreeMap::new();
        let mut conflicts = BTreeSet::new();
        for attempt in &self.attempts {
            let groups = self.session_groups.entry(attempt.session).or_default();
            for (label, value) in &attempt.groups {
                groups.insert(format!("{label}:{value}"));
            }
            operations
                .entry((attempt.class, attempt.id))
                .and_modify(|op| op.take(attempt))
                .or_insert_with(|| Logical::new(attempt));
            let Subject::Item { item, .. } = &attempt.subject else {
                continue;
            };
            match self.items.get_mut(item) {
                None => {
                    self.items.extend(Item::new(attempt).map(|new| (*item, new)));
                }
                Some(known) if known.operation == attempt.id => known.take(attempt),
                Some(_) => {
                    conflicts.insert(*item);
                }
            }
        }
        self.item_conflicts = conflicts.into_iter().collect();
        self.operations = operations.into_values().collect();
        self.operations.sort_by_key(|o| (o.intended, o.id));
    }

    /// What may have happened did happen once any observer saw it. What surely failed stays so: seeing it is a breach of
    /// its own. Where it stands is taken from the final read, which is the authority.
    fn index_sightings(&mut self) {
        let mut seen: BTreeMap<u64, (Nanos, u64)> = BTreeMap::new();
        let shown = self
            .shown
            .iter()
            .filter_map(|s| Some((s.item?, &s.log, s.at, s.position)));
        let read = self
            .reads
            .iter()
            .flat_map(|r| r.items.iter().map(move |i| (i.item, &r.log, r.ended, i.position)))
            .filter_map(|(item, log, at, position)| Some((item?, log, at, position)));
        let told = self.told.iter().flat_map(|told| {
            let messages = told.answer.messages().into_iter();
            messages.flat_map(move |(log, items)| {
                let found = items.iter();
                found.filter_map(move |it| Some((it.item?, log, told.ended, it.position)))
            })
        });
        for (item, log, at, position) in shown.chain(read).chain(told) {
            // Found in a log that is not its own it is misplaced, and has not been seen where it belongs.
            if self.items.get(&item).is_some_and(|known| known.log == *log) {
                let first = seen.entry(item).or_insert((at, position));
                *first = (*first).min((at, position));
            }
        }
        let mut places: BTreeMap<u64, u64> = BTreeMap::new();
        for (log, read) in self.final_reads() {
            for found in &read.items {
                if let Some(item) = found
                    .item
                    .filter(|i| self.items.get(i).is_some_and(|known| known.log == log))
                {
                    places.entry(item).or_insert(found.position);
                }
            }
        }
        for item in self.items.values_mut() {
            let sighting = seen.get(&item.item).copied();
            item.seen = sighting.map(|(at, _)| at);
            if item.seen.is_some() && item.fate == Fate::May {
                item.fate = Fate::Must;
            }
            let answered = item.positions.first().map(|(position, _)| *position);
            let read = places.get(&item.item).copied();
            item.position = read.or(answered).or(sighting.map(|(_, position)| position));
        }
    }

    /// A message to a group is owed to those who belonged to it at the message's position.
    fn index_groups(&mut self) {
        let whole = self
            .final_reads()
            .into_iter()
            .filter(|(_, read)| !read.changes.is_empty());
        let groups = whole.map(|(log, read)| (log.to_owned(), Membership::of(&read.changes)));
        self.groups = groups.collect();
        for item in self.items.values_mut().filter(|item| item.group) {
            if let (Some(group), Some(position)) = (self.groups.get(&item.log), item.position) {
                item.owed = group.members_at(position).collect();
            }
        }
    }

    fn index_devices(&mut self) {
        for attempt in &self.attempts {
            let Subject::Device { user, device, .. } = attempt.subject else {
                continue;
            };
            let known = self.devices.entry((user, device)).or_default();
            known.session = attempt.session;
            if attempt.outcome == Outcome::Ok {
                known.registered = Some(known.registered.map_or(attempt.done, |r| r.min(attempt.done)));
            }
        }
        for (index, event) in self.sessions.iter().enumerate() {
            let known = self.devices.entry((event.user, event.device)).or_default();
            known.session = event.session;
            known.timeline.push((event.at, DeviceEvent::Session(index)));
            if matches!(event.change, SessionChange::Connected { .. }) {
                known.registered = Some(known.registered.map_or(event.at, |r| r.min(event.at)));
            }
        }
        for (index, event) in self.shown.iter().enumerate() {
            let known = self.devices.entry((event.user, event.device)).or_default();
            known.session = event.session;
            known.timeline.push((event.at, DeviceEvent::Shown(index)));
        }
        for (index, event) in self.noticed.iter().enumerate() {
            let known = self.devices.entry((event.user, event.device)).or_default();
            known.session = event.session;
            known.timeline.push((event.at, DeviceEvent::Noticed(index)));
        }
        let mut devices = std::mem::take(&mut self.devices);
        for device in devices.values_mut() {
            // Of one instant, a connection's opening comes before what it brought, and that in its sequence.
            device
                .timeline
                .sort_by_key(|(at, event)| (*at, self.entry(*event).map(|entry| entry.sequence)));
        }
        self.devices = devices;
    }

    fn index_deliveries(&mut self) {
        let mut first_shown: BTreeMap<(u64, u64, u32), Nanos> = BTreeMap::new();
        for shown in self.shown.iter().filter(|s| !s.repeated_on_wire) {
            if let Some(item) = shown.item {
                first_shown.entry((item, shown.user, shown.device)).or_insert(shown.at);
            }
        }
        let operations: BTreeMap<u64, &Logical> = self
            .operations
            .iter()
            .filter(|o| matches!(o.class, Class::Send | Class::Group | Class::Put | Class::Request))
            .map(|o| (o.id, o))
            .collect();
        let mut deliveries = Vec::new();
        for item in self.items.values() {
            let operation = operations.get(&item.operation);
            for user in &item.owed {
                for ((_, device), known) in self.devices.range((*user, 0)..=(*user, u32::MAX)) {
                    // A device that came while the message was on its way may or may not be owed it.
                    if known.registered.is_none_or(|r| r > item.sent) {
                        continue;
                    }
                    deliveries.push(Delivery {
                        item: item.item,
                        user: *user,
                        device: *device,
                        session: known.session,
                        intended: operation.map_or(item.sent, |o| o.intended),
                        sent: item.sent,
                        acked: item.acked,
                        shown: first_shown.get(&(item.item, *user, *device)).copied(),
                        fate: item.fate,
                        over: item.over,
                        needs: operation.map_or_else(String::new, |o| o.needs.clone()),
                        probe: operation.is_some_and(|o| o.probe),
                        shed: operation.is_some_and(|o| o.outcome == Outcome::Shed),
                    });
                }
            }
        }
        deliveries.sort_by_key(|d| (d.intended, d.item, d.user, d.device));
        self.deliveries = deliveries;
    }
}

//! What can be asked of a user's conversations, contacts and groups.

use firedrill_proto::chat::v1::{
    AuditResponse, Contact, HistoryRequest, HistoryResponse, Member as MemberAnswer, OpenResponse,
    Thread as ThreadAnswer,
};

use super::{
    Machine,
    error::ChatError,
    ids,
    keys::{Key, u64_at},
    query::state,
    records::{Account, ContactRecord, Conversation, Device, Member, Sender, Thread},
    refused::Refused,
    store::{self},
    validate::QUERY_ITEMS_MAX,
};

/// Most bytes of records that one answer holds.
const LIST_BYTES_MAX: usize = 1 << 20;

/// Conversations on one page of a list.
const THREADS_PAGE: usize = 200;

/// An answer of the state, or its refusal.
type Asked<T> = Result<Result<T, Refused>, ChatError>;

impl Machine {
    /// A page of a user's conversations, behind the one with the id `after`, as this replica has applied them. Whether
    /// that is current is the caller's to say.
    ///
    /// # Errors
    /// When the database fails or is damaged; inside, when the session isn't the device's.
    pub fn threads(&self, user: u64, device: u32, session: u64, after: u64) -> Asked<OpenResponse> {
        let checked = self.check_session(user, device, session)?;
        if let Err(refused) = checked {
            return Ok(Err(refused));
        }
        let table = self.read()?;
        let range = Key::thread(user, after.saturating_add(u64::from(after > 0)))..=Key::thread(user, u64::MAX);
        let found = store::scan::<Thread>(&table, &range, THREADS_PAGE, LIST_BYTES_MAX)?;
        let account: Account = store::get(&table, &Key::account(user))?.unwrap_or_default();
        let record: Device = store::get(&table, &Key::device(user, device))?.unwrap_or_default();
        let hidden = self.hidden_from(&record);
        let threads = found.into_iter().map(|(key, mut thread)| {
            thread.last_position = thread.last_position.saturating_sub(hidden);
            answer(&key, thread)
        });
        let threads: Vec<ThreadAnswer> = threads.collect();
        let stands = state(&record, &account);
        Ok(Ok(OpenResponse {
            next: match threads.last() {
                Some(last) if threads.len() == THREADS_PAGE => last.conversation,
                _ => 0,
            },
            threads,
            current: false,
            as_of_ms: self.meta.time_ms,
            last_sequence: stands.last_sequence,
            incarnation: stands.incarnation,
        }))
    }

    /// A page of a user's contacts, behind the number `after`.
    ///
    /// # Errors
    /// When the database fails or is damaged; inside, when the session isn't the device's.
    pub fn contacts(&self, user: u64, device: u32, session: u64, after: &str) -> Asked<Vec<Contact>> {
        let checked = self.check_session(user, device, session)?;
        if let Err(refused) = checked {
            return Ok(Err(refused));
        }
        let found = store::scan::<ContactRecord>(
            &self.read()?,
            &Key::contacts(user, after),
            QUERY_ITEMS_MAX,
            LIST_BYTES_MAX,
        )?;
        let contacts = found.into_iter().map(|(key, record)| Contact {
            phone: Key::phone_of_contact(&key).to_owned(),
            user: record.user,
            imported: record.imported,
            matched: record.matched,
        });
        Ok(Ok(contacts.filter(|contact| contact.phone != after).collect()))
    }

    /// Messages of a conversation, as one of its members may see them: of a group only what came from the member's own
    /// joining on. Whoever doesn't say who it is sees nothing: what operators read goes through [`Machine::audit`].
    ///
    /// # Errors
    /// When the database fails or is damaged; inside, when the caller is no member, or its session doesn't act here.
    pub fn history_of(&self, request: &HistoryRequest, limit: usize) -> Asked<HistoryResponse> {
        let id = request.conversation;
        let table = self.read()?;
        let record: Conversation = store::get(&table, &Key::conversation(id))?.unwrap_or_default();
        let caller = request.caller.unwrap_or_default();
        let user = caller.user;
        if user == 0 {
            return Ok(Err(Refused::NotMember { conversation: id, user }));
        }
        if let Err(refused) = self.acts_here(user, caller.device, caller.session)? {
            return Ok(Err(refused));
        }
        let no_member = Refused::NotMember { conversation: id, user };
        let mut after = request.after;
        if record.group {
            let Some(member) = store::get::<Member>(&table, &Key::member(id, user))? else {
                return Ok(Err(no_member));
            };
            if !self.shows_all_history() {
                after = after.max(member.joined.saturating_sub(1));
            }
        } else if record.last_position > 0 && ![record.low, record.high].contains(&user) {
            return Ok(Err(no_member));
        }
        Ok(Ok(self.history(id, after, limit)?))
    }

    #[cfg(any(test, feature = "plants"))]
    fn shows_all_history(&self) -> bool {
        self.plant == Some(super::Plant::LeakHistory)
    }

    #[cfg(not(any(test, feature = "plants")))]
    #[expect(clippy::unused_self, reason = "a plant needs it")]
    const fn shows_all_history(&self) -> bool {
        false
    }

    /// How many positions of each conversation a device doesn't see: none, or what a plant hides from a later session.
    #[cfg(any(test, feature = "plants"))]
    fn hidden_from(&self, device: &Device) -> u64 {
        let shrinks = self.plant == Some(super::Plant::ShrinkHistory) && !device.old_nonces.is_empty();
        if shrinks { 3 } else { 0 }
    }

    #[cfg(not(any(test, feature = "plants")))]
    #[expect(clippy::unused_self, reason = "a plant needs it")]
    const fn hidden_from(&self, _: &Device) -> u64 {
        0
    }

    /// Whether a session may act at a conversation's home, which isn't the shard that opened it.
    fn acts_here(&self, user: u64, device: u32, session: u64) -> Asked<()> {
        let sender: Sender = store::get(&self.read()?, &Key::sender(user, device))?.unwrap_or_default();
        let opened_elsewhere = ids::session_shard(session) != ids::owner(user, self.meta.shards);
        if opened_elsewhere || session < sender.session || self.is_fenced(session)? {
            return Ok(Err(Refused::SessionEnded { session }));
        }
        Ok(Ok(()))
    }

    /// A conversation as its home has it: all of its messages behind `after`, and who belongs to it. For operators.
    ///
    /// # Errors
    /// When the database fails or is damaged.
    pub fn audit(&self, id: u64, after: u64, limit: usize) -> Result<AuditResponse, ChatError> {
        let history = self.history(id, after, limit)?;
        let found = store::scan::<Member>(&self.read()?, &Key::members(id), usize::MAX, usize::MAX)?;
        let members = found.into_iter().map(|(key, member)| MemberAnswer {
            user: u64_at(&key, 9).unwrap_or_default(),
            joined: member.joined,
            delivered: member.delivered,
            read: member.read,
        });
        Ok(AuditResponse {
            messages: history.messages,
            last_position: history.last_position,
            members: members.collect(),
        })
    }

    /// The members of a group, asked by one of them.
    ///
    /// # Errors
    /// When the database fails or is damaged; inside, when the caller is no member, or its session doesn't act here.
    pub fn members_for(&self, id: u64, user: u64, device: u32, session: u64) -> Asked<Vec<MemberAnswer>> {
        if let Err(refused) = self.acts_here(user, device, session)? {
            return Ok(Err(refused));
        }
        if !store::has(&self.read()?, &Key::member(id, user))? {
            return Ok(Err(Refused::NotMember { conversation: id, user }));
        }
        Ok(Ok(self.audit(id, u64::MAX, 0)?.members))
    }
}

fn answer(key: &[u8], thread: Thread) -> ThreadAnswer {
    ThreadAnswer {
        conversation: u64_at(key, 9).unwrap_or_default(),
        group: thread.group,
        peer: thread.peer,
        last_position: thread.last_position,
        last_sender: thread.last_sender,
        last_ms: thread.last_ms,
        head: thread.head,
        unread: thread.unread,
        delivered: thread.delivered,
        read: thread.read,
        joined: thread.joined,
        left: thread.left,
    }
}

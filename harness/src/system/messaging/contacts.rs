//! How the loads on address books reach the service.

use std::time::Duration;

use async_trait::async_trait;
use firedrill_proto::chat::v1::{Contact as WireContact, ContactsRequest, ImportContactsRequest};

use super::{
    client::ChatOverGrpc,
    people::{lane_of, who},
};
use crate::{
    history::Contact,
    workload::{
        client::{Answered, CallFailure},
        contacts::{ContactsClient, Imported},
        people::Caller,
    },
};

/// Pages of contacts in one look, at most: an address book ends long before.
const PAGES_MAX: usize = 64;

#[async_trait]
impl ContactsClient for ChatOverGrpc {
    async fn import_contacts(&self, caller: Caller, phones: &[String], within: Duration) -> Answered<Imported> {
        let entry = self.ready(lane_of(caller), within).await;
        let request = ImportContactsRequest {
            caller: Some(who(caller)),
            phones: phones.to_vec(),
            epoch: 0,
        };
        self.answered(&entry, entry.client.import_contacts(request).await, |answer| Imported {
            added: answer.added,
        })
    }

    async fn contacts(&self, caller: Caller, within: Duration) -> Answered<Vec<Contact>> {
        let entry = self.ready(lane_of(caller), within).await;
        let mut contacts: Vec<Contact> = Vec::new();
        for _ in 0..PAGES_MAX {
            let request = ContactsRequest {
                caller: Some(who(caller)),
                after: contacts.last().map_or_else(String::new, |last| last.phone.clone()),
                epoch: 0,
            };
            let page = entry.client.contacts(request).await;
            let Answered { result, by } = self.answered(&entry, page, |answer| answer.contacts);
            match result {
                Err(failure) => {
                    return Answered {
                        result: Err(failure),
                        by,
                    };
                }
                Ok(page) if page.is_empty() => {
                    return Answered {
                        result: Ok(contacts),
                        by,
                    };
                }
                Ok(page) => contacts.extend(page.into_iter().map(translate)),
            }
        }
        Answered::failed(CallFailure {
            retryable: false,
            ..CallFailure::refused(format!("contacts did not end after {PAGES_MAX} pages"))
        })
    }
}

/// A contact in the words of histories.
pub(super) fn translate(contact: WireContact) -> Contact {
    Contact {
        phone: contact.phone,
        user: contact.user,
        imported: contact.imported,
        matched: contact.matched,
    }
}

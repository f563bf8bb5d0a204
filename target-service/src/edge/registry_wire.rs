//! The registry's messages on the wire: the one file that knows both their forms.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{
    RegistryAnswer, RegistryEnvelope, RegistryNews, RegistryNewsList, RegistrySession, RegistryStamp, RegistryStamps,
    registry_envelope::Body as Wire,
};

use crate::registry::{Body, Envelope, MemberId, News, Stamp};

pub(super) fn to_wire(envelope: &Envelope) -> RegistryEnvelope {
    let body = match &envelope.body {
        Body::Digest(digest) => Wire::Digest(RegistryStamps { stamps: stamps(digest) }),
        Body::Answer { news, lacking } => Wire::Answer(RegistryAnswer {
            news: news.iter().map(news_to_wire).collect(),
            lacking: stamps(lacking),
        }),
        Body::News(news) => Wire::News(RegistryNewsList {
            news: news.iter().map(news_to_wire).collect(),
        }),
    };
    RegistryEnvelope {
        from: envelope.from,
        to: envelope.to,
        body: Some(body),
    }
}

/// None for a message of a kind that this version doesn't know.
pub(super) fn from_wire(envelope: RegistryEnvelope) -> Option<Envelope> {
    let body = match envelope.body? {
        Wire::Digest(digest) => Body::Digest(map(digest.stamps)),
        Wire::Answer(answer) => Body::Answer {
            news: answer.news.into_iter().filter_map(news_from_wire).collect(),
            lacking: map(answer.lacking),
        },
        Wire::News(list) => Body::News(list.news.into_iter().filter_map(news_from_wire).collect()),
    };
    Some(Envelope {
        from: envelope.from,
        to: envelope.to,
        body,
    })
}

fn stamps(stamps: &BTreeMap<MemberId, Stamp>) -> Vec<RegistryStamp> {
    stamps
        .iter()
        .map(|(member, stamp)| stamp_to_wire(*member, *stamp))
        .collect()
}

const fn stamp_to_wire(member: MemberId, stamp: Stamp) -> RegistryStamp {
    RegistryStamp {
        member,
        incarnation: stamp.incarnation,
        version: stamp.version,
    }
}

const fn stamp_from_wire(stamp: &RegistryStamp) -> Stamp {
    Stamp {
        incarnation: stamp.incarnation,
        version: stamp.version,
    }
}

fn map(stamps: Vec<RegistryStamp>) -> BTreeMap<MemberId, Stamp> {
    stamps
        .iter()
        .map(|stamp| (stamp.member, stamp_from_wire(stamp)))
        .collect()
}

fn news_to_wire(news: &News) -> RegistryNews {
    let sessions = |sessions: &BTreeMap<u64, u64>| {
        let sessions = sessions.iter();
        sessions
            .map(|(session, version)| RegistrySession {
                session: *session,
                version: *version,
            })
            .collect()
    };
    RegistryNews {
        owner: Some(stamp_to_wire(news.owner, news.stamp)),
        since: news.since,
        opened: sessions(&news.opened),
        ended: sessions(&news.ended),
    }
}

fn news_from_wire(news: RegistryNews) -> Option<News> {
    let owner = news.owner?;
    let sessions = |sessions: Vec<RegistrySession>| {
        sessions
            .into_iter()
            .map(|session| (session.session, session.version))
            .collect()
    };
    Some(News {
        owner: owner.member,
        stamp: stamp_from_wire(&owner),
        since: news.since,
        opened: sessions(news.opened),
        ended: sessions(news.ended),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn news() -> impl Strategy<Value = News> {
        let sessions = || proptest::collection::btree_map(any::<u64>(), any::<u64>(), 0..5);
        let stamp = (any::<u64>(), any::<u64>());
        (any::<u32>(), stamp, any::<Option<u64>>(), sessions(), sessions()).prop_map(
            |(owner, (incarnation, version), since, opened, ended)| News {
                owner,
                stamp: Stamp { incarnation, version },
                since,
                opened,
                ended,
            },
        )
    }

    fn bodies() -> impl Strategy<Value = Body> {
        let stamp = || (any::<u64>(), any::<u64>()).prop_map(|(incarnation, version)| Stamp { incarnation, version });
        let stamps = move || proptest::collection::btree_map(any::<u32>(), stamp(), 0..5);
        let list = || proptest::collection::vec(news(), 0..4);
        prop_oneof![
            stamps().prop_map(Body::Digest),
            (list(), stamps()).prop_map(|(news, lacking)| Body::Answer { news, lacking }),
            list().prop_map(|news| Body::News(news.into())),
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire(from: u32, to: u32, body in bodies()) {
            let envelope = Envelope { from, to, body };
            prop_assert_eq!(from_wire(to_wire(&envelope)), Some(envelope));
        }
    }

    #[test]
    fn what_is_of_no_known_kind_is_passed_over() {
        assert_eq!(from_wire(RegistryEnvelope::default()), None);
        let nobodys = RegistryEnvelope {
            body: Some(Wire::News(RegistryNewsList {
                news: vec![RegistryNews::default()],
            })),
            ..RegistryEnvelope::default()
        };
        assert_eq!(from_wire(nobodys).map(|envelope| envelope.body.entries()), Some(0));
    }
}

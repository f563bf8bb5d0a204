//! A step: when, and exactly one verb with its value.
//!
//! Read through a visitor rather than a derived struct, so that a new verb is one line in the list of verbs and none
//! here, and so that every error stands at the line and column of the key or value that it is about.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::StringDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::{HumanDuration, did_you_mean};
use crate::fault::{self, FaultSpec};

/// One thing done to the system.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When, counted from the steady state on.
    pub at: Option<HumanDuration>,
    /// When, as an event.
    pub when: Option<When>,
    /// What.
    pub fault: FaultSpec,
    /// How long the fault lasts; until the end of the steps when it is not said.
    pub heal_after: Option<HumanDuration>,
    /// Which system, when there are several.
    pub system: Option<String>,
}

/// An event to wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The event, counted from the step before on.
    pub event: WhenEvent,
    /// How long it is waited for. The run is inconclusive when it does not come.
    pub within: HumanDuration,
}

/// The events that a step can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenEvent {
    /// Some shard has a leader in a later term than when the step before began.
    LeaderElected,
    /// The conditions of the steady state hold again.
    Steady,
}

/// The keys of a step that are not verbs.
const KEYS: &[&str] = &["at", "when", "heal_after", "system"];

/// All keys of a step, verbs first.
fn keys() -> Vec<&'static str> {
    fault::ALL
        .iter()
        .map(|verb| verb.name)
        .chain(KEYS.iter().copied())
        .collect()
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error as _, SerializeMap as _};
        let mut map = serializer.serialize_map(None)?;
        if let Some(at) = &self.at {
            map.serialize_entry("at", at)?;
        }
        if let Some(when) = &self.when {
            map.serialize_entry("when", when)?;
        }
        // A fault writes itself as a map of one entry: its verb and value.
        let fault = serde_json::to_value(&self.fault).map_err(S::Error::custom)?;
        for (verb, value) in fault.as_object().into_iter().flatten() {
            map.serialize_entry(verb, value)?;
        }
        if let Some(heal_after) = &self.heal_after {
            map.serialize_entry("heal_after", heal_after)?;
        }
        if let Some(system) = &self.system {
            map.serialize_entry("system", system)?;
        }
        map.end()
    }
}

/// Reads a key of a step, and refuses it where it stands: when it is not one, or is a second verb.
struct KeySeed<'a> {
    verb: Option<&'a str>,
}

impl<'de> de::DeserializeSeed<'de> for KeySeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl de::Visitor<'_> for KeySeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of a step")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if !keys().contains(&key) {
            let hint = did_you_mean(key, keys());
            return Err(E::custom(format!("unknown key `{key}` in a step; {hint}")));
        }
        match self.verb {
            Some(first) if !KEYS.contains(&key) => Err(E::custom(format!(
                "a step has exactly one verb, and this one has `{first}` and `{key}`; make it two steps"
            ))),
            _ => Ok(key.to_owned()),
        }
    }
}

/// Reads `verb: value` as the externally tagged enum that a fault is.
struct VerbAccess<'a, A> {
    verb: String,
    map: &'a mut A,
}

impl<'de, A: de::MapAccess<'de>> de::EnumAccess<'de> for VerbAccess<'_, A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), A::Error> {
        let verb = StringDeserializer::<A::Error>::new(self.verb.clone());
        Ok((seed.deserialize(verb)?, self))
    }
}

impl<'de, A: de::MapAccess<'de>> de::VariantAccess<'de> for VerbAccess<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        Err(self.not_a_value())
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.map.next_value_seed(seed)
    }

    fn tuple_variant<V: de::Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, A::Error> {
        Err(self.not_a_value())
    }

    fn struct_variant<V: de::Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, A::Error> {
        Err(self.not_a_value())
    }
}

impl<A> VerbAccess<'_, A> {
    fn not_a_value<E: de::Error>(&self) -> E {
        // Every verb wraps one value; the list of verbs has a test for it.
        E::custom(format!("`{}` takes a value", self.verb))
    }
}

impl<'de, A: de::MapAccess<'de>> Deserializer<'de> for VerbAccess<'_, A> {
    type Error = A::Error;

    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> de::Visitor<'de> for Keys {
            type Value = Step;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a step such as `{ at: 5s, kill: leader, heal_after: 4s }`")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Step, A::Error> {
                let (mut at, mut when, mut heal_after, mut system) = (None, None, None, None);
                let mut fault: Option<FaultSpec> = None;
                loop {
                    let verb = fault.as_ref().map(FaultSpec::kind);
                    let Some(key) = map.next_key_seed(KeySeed { verb })? else {
                        break;
                    };
                    match key.as_str() {
                        "at" => at = Some(map.next_value()?),
                        "when" => when = Some(map.next_value()?),
                        "heal_after" => heal_after = Some(map.next_value()?),
                        "system" => system = Some(map.next_value()?),
                        verb => {
                            let access = VerbAccess {
                                verb: verb.to_owned(),
                                map: &mut map,
                            };
                            fault = Some(FaultSpec::deserialize(access)?);
                        }
                    }
                }
                let fault = fault.ok_or_else(|| {
                    let verbs: Vec<&str> = fault::ALL.iter().map(|verb| verb.name).collect();
                    de::Error::custom(format!(
                        "a step needs exactly one verb; add one of {}",
                        verbs.join(", ")
                    ))
                })?;
                Ok(Step {
                    at,
                    when,
                    fault,
                    heal_after,
                    system,
                })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl JsonSchema for Step {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let duration = generator.subschema_for::<HumanDuration>();
        let when = generator.subschema_for::<When>();
        // A fault's own schema is one object of one verb for each variant: its verbs become keys of the step.
        let fault = FaultSpec::json_schema(generator);
        let variants = fault
            .get("oneOf")
            .and_then(|v| v.as_array())
            .cloned()
            .unwrap_or_default();
        let mut properties = serde_json::Map::new();
        let mut verbs = Vec::new();
        for variant in &variants {
            let description = variant.get("description").cloned();
            for (verb, value) in variant
                .get("properties")
                .and_then(|p| p.as_object())
                .into_iter()
                .flatten()
            {
                let info = fault::find(verb).map(|info| info.summary.into());
                let mut value = value.clone();
                if let (Some(object), Some(text)) = (value.as_object_mut(), info.or_else(|| description.clone())) {
                    object.insert("description".to_owned(), text);
                }
                properties.insert(verb.clone(), value);
                verbs.push(serde_json::json!({ "required": [verb] }));
            }
        }
        for (key, schema, text) in [
            ("at", &duration, "When, counted from the steady state on."),
            (
                "heal_after",
                &duration,
                "How long the fault lasts; until the end of the steps when it is not said.",
            ),
            ("when", &when, "When, as an event."),
        ] {
            let mut schema = schema.clone();
            schema.insert("description".to_owned(), text.into());
            properties.insert(key.to_owned(), schema.into());
        }
        properties.insert(
            "system".to_owned(),
            serde_json::json!({ "type": "string", "description": "Which system, when there are several." }),
        );
        json_schema!({
            "type": "object",
            "description": "When, and exactly one verb with its value.",
            "properties": properties,
            "additionalProperties": false,
            "allOf": [
                { "oneOf": verbs },
                { "oneOf": [{ "required": ["at"] }, { "required": ["when"] }] },
            ],
        })
    }
}

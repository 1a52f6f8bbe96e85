//! Enums with a tag among their fields (`#[serde(tag = "…")]`), read as they come. What serde derives for them keeps all
//! fields of a value in memory first, because the tag could be the last of them; a journal has half a million events. Whoever
//! writes such an enum by serde writes its tag first. Where somebody else did not, the fields are kept after all, and what is
//! read is the same.
//!
//! The macro `tag_first` defines the enum; reading starts at [`read`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{CowStrDeserializer, MapAccessDeserializer, MapDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, Unexpected, VariantAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Map;

/// Defines an enum of unit and struct variants with kebab-case names that has its tag among its fields: its tag, its name as a
/// text, then the enum. Its second name is the same enum for serde alone, with the tag outside.
macro_rules! tag_first {
    ($tag:literal, $text:literal, $(#[$meta:meta])* pub enum $name:ident as $outside:ident $variants:tt) => {
        $(#[$meta])*
        #[derive(serde::Serialize)]
        #[serde(tag = $tag, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
        pub enum $name $variants

        #[derive(serde::Deserialize)]
        #[serde(remote = $text, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
        enum $outside $variants

        impl $crate::tag_first::Tagged for $name {
            const TAG: &'static str = $tag;

            fn with_tag_outside<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $outside::deserialize(deserializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::tag_first::read(deserializer)
            }
        }
    };
}
pub(crate) use tag_first;

/// An enum whose tag stands among its fields.
pub(crate) trait Tagged: Sized {
    /// The tag's name.
    const TAG: &'static str;

    /// Reads it as if its tag stood outside: what serde derives then keeps nothing.
    ///
    /// # Errors
    /// Those of the fields; a tag that names no variant.
    fn with_tag_outside<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Reads an enum whose tag stands among its fields.
///
/// # Errors
/// Those of [`Tagged::with_tag_outside`]; no tag.
pub(crate) fn read<'de, T: Tagged, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(Fields(PhantomData))
}

/// A key or a tag, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

struct Fields<T>(PhantomData<T>);

impl<'de, T: Tagged> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fields with `{}`", T::TAG)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut before = Map::new();
        while let Some(Word(key)) = map.next_key()? {
            if key != T::TAG {
                before.insert(key.into_owned(), map.next_value()?);
                continue;
            }
            let Word(tag) = map.next_value()?;
            if before.is_empty() {
                return T::with_tag_outside(Outside { tag, rest: map });
            }
            while let Some((Word(key), value)) = map.next_entry()? {
                before.insert(key.into_owned(), value);
            }
            let rest = MapDeserializer::new(before.into_iter());
            return T::with_tag_outside(Outside { tag, rest }).map_err(A::Error::custom::<serde_json::Error>);
        }
        Err(A::Error::missing_field(T::TAG))
    }
}

/// An enum whose tag was read, in front of its other fields.
struct Outside<'de, A> {
    tag: Cow<'de, str>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Outside<'de, A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Outside<'de, A> {
    type Error = A::Error;
    type Variant = Rest<A>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Rest<A>), A::Error> {
        let variant = seed.deserialize(CowStrDeserializer::new(self.tag))?;
        Ok((variant, Rest(self.rest)))
    }
}

/// The fields behind a tag.
struct Rest<A>(A);

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Rest<A> {
    type Error = A::Error;

    fn unit_variant(mut self) -> Result<(), A::Error> {
        // What a newer program adds to a variant is not for this one.
        while self.0.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        MapAccessDeserializer::new(self.0).deserialize_struct("", fields, visitor)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::NewtypeVariant, &"a variant with named fields"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, A::Error> {
        Err(A::Error::invalid_type(Unexpected::TupleVariant, &"a variant with named fields"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::event::{AttemptEnd, Fate, Recorded, RunEvent};

    fn read(text: &str) -> Result<RunEvent, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    const MERGED: &str = r#"{"event":"merged","instance":"a[n=1]","fate":{"fate":"landed","commit":"c"}}"#;

    #[test]
    fn the_place_of_the_tag_does_not_matter() {
        let landed = Fate::Landed { commit: "c".to_owned() };
        let merged = RunEvent::Merged { instance: swarm_plans::InstanceId("a[n=1]".into()), fate: landed };
        assert_eq!(read(MERGED), Ok(merged.clone()));
        let last = r#"{"fate":{"commit":"c","fate":"landed"},"instance":"a[n=1]","event":"merged"}"#;
        assert_eq!(read(last), Ok(merged.clone()));
        let middle = r#"{"instance":"a[n\u003d1]","ev\u0065nt":"mer\u0067ed","fate":{"commit":"c","fate":"landed"}}"#;
        assert_eq!(read(middle), Ok(merged.clone()));
        assert_eq!(serde_json::to_string(&merged).expect("plain"), MERGED);
    }

    #[test]
    fn a_tag_that_is_missing_or_unknown_is_said() {
        assert!(read(r#"{"instance":"a"}"#).is_err_and(|why| why.starts_with("missing field `event`")));
        let unknown = read(r#"{"event":"melted","instance":"a"}"#);
        assert!(unknown.is_err_and(|why| why.starts_with("unknown variant `melted`, expected one of `run-started`")));
        assert!(read(r#"{"event":"merged","instance":"a"}"#).is_err_and(|why| why.starts_with("missing field `fate`")));
        assert!(read("[1]").is_err_and(|why| why.starts_with("invalid type: sequence")));
    }

    #[test]
    fn what_a_newer_program_adds_is_passed_over_and_what_an_older_one_lacks_has_its_default() {
        let more = r#"{"event":"merged","new":[{}],"instance":"a","fate":{"fate":"empty","new":1}}"#;
        assert!(matches!(read(more), Ok(RunEvent::Merged { fate: Fate::Empty, .. })));
        let less = r#"{"event":"instance-finished","instance":"a","result":"succeeded"}"#;
        assert!(matches!(read(less), Ok(RunEvent::InstanceFinished { cause: None, .. })));
    }

    #[test]
    fn a_tagged_value_stands_among_the_fields_of_another() {
        let value = json!({
            "seq": 1, "at-ms": 2, "event": "merged", "instance": "a",
            "fate": { "fate": "parked", "reason": "r", "paths": [], "by": "gate", "verification": 7 },
        });
        let recorded: Recorded = serde_json::from_value(value.clone()).expect("an event");
        assert_eq!(serde_json::to_value(&recorded).expect("plain"), value);
        let end = json!({ "end": "work", "ended": { "how": "exited", "code": 1 } });
        assert!(matches!(serde_json::from_value(end), Ok(AttemptEnd::Work { .. })));
    }
}

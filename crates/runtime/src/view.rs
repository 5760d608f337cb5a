//! Parts of Kubernetes objects: a watch decodes only the fields that somebody reads.
//!
//! The full types of k8s-openapi know every field of a Pod or a Node, and `managedFields` become trees of JSON values; a
//! page of 500 Services takes megabytes that way, and the code that decodes them another. A view declared with
//! [`view!`](crate::view!) skips what it does not name while it reads.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta, Time};
use serde::{Deserialize, Deserializer};

/// The metadata that is read; the rest of [`ObjectMeta`] stays empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "or_default")]
    managed_fields: Vec<Managed>,
}

/// Of an entry of managedFields, who wrote which fields of the status; the others, which are most, are skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Managed {
    manager: Option<String>,
    #[serde(rename = "fieldsV1", deserialize_with = "or_default")]
    fields: ManagedStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ManagedStatus {
    #[serde(rename = "f:status")]
    status: Option<serde_json::Value>,
}

/// Decodes metadata without ownerReferences and finalizers, and of managedFields only those of the status: for
/// `#[serde(deserialize_with)]`.
///
/// # Errors
/// A field has another type than Kubernetes gives it.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = Meta::deserialize(deserializer)?;
    let of_status = meta.managed_fields.into_iter().filter_map(|Managed { manager, fields }| {
        let fields_v1 = Some(FieldsV1(serde_json::json!({ "f:status": fields.status? })));
        Some(ManagedFieldsEntry { manager, fields_v1, ..ManagedFieldsEntry::default() })
    });
    let of_status: Vec<ManagedFieldsEntry> = of_status.collect();
    Ok(ObjectMeta {
        managed_fields: (!of_status.is_empty()).then_some(of_status),
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        generation: meta.generation,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        labels: meta.labels,
        annotations: meta.annotations,
        ..ObjectMeta::default()
    })
}

/// Declares a view of a kind: a struct with `metadata` and the fields named here, each absent or null one its default.
/// It can be listed and watched like the kind itself. The caller depends on `serde` and `kube`.
#[macro_export]
macro_rules! view {
    ($(#[$doc:meta])* $name:ident of $kind:ty { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(crate) struct $name {
            #[serde(deserialize_with = "landfall_runtime::view::metadata")]
            pub(crate) metadata: kube::core::ObjectMeta,
            $(#[serde(deserialize_with = "landfall_runtime::view::or_default")] pub(crate) $field: $type,)*
        }

        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = <$kind as kube::Resource>::Scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::kind(&())
            }
            fn group((): &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::group(&())
            }
            fn version((): &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::version(&())
            }
            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                <$kind as kube::Resource>::plural(&())
            }
            fn meta(&self) -> &kube::core::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut kube::core::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// The status of a Node or Pod: its conditions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WithConditions {
    #[serde(deserialize_with = "or_default")]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    #[serde(deserialize_with = "or_default")]
    message: String,
    #[serde(rename = "lastTransitionTime")]
    since: Option<Time>,
}

impl WithConditions {
    /// Whether the condition of this type is there and True.
    pub fn is(&self, type_: &str) -> bool {
        self.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
    }

    /// Since when the condition of this type has its status, if it is there and says so.
    pub fn since(&self, type_: &str) -> Option<Timestamp> {
        self.conditions.iter().find(|condition| condition.type_ == type_)?.since.as_ref().map(|since| since.0)
    }

    /// Whether the condition of this type is there, is False, and says this among other things.
    pub fn is_not_because(&self, type_: &str, text: &str) -> bool {
        let of_type = |condition: &&Condition| condition.type_ == type_ && condition.status == "False";
        self.conditions.iter().filter(of_type).any(|condition| condition.message.contains(text))
    }
}

/// Decodes a field that may be null, as Go writes an empty list: for `#[serde(deserialize_with)]`.
///
/// # Errors
/// The field has another type.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

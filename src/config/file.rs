//! The TOML file, as it is written: names and types, before anything is checked.
//!
//! `docs/pen-dsr.example.toml` has every key with its unit and default.

mod proxy;
mod read;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;

use proxy::{ListenTable, ProxyTable};
pub(crate) use read::{Defaults, apply, parse};

/// A number with its place, so that one out of range can be reported there.
type Number = Option<Spanned<i64>>;
/// A text with its place.
type Text = Option<Spanned<String>>;
/// A switch with its place.
type Switch = Option<Spanned<bool>>;

/// The whole file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct File {
    interface: Text,
    out: Text,
    driver: Text,
    mac: Text,
    dedicated: Switch,
    ifconfig: Switch,
    xdp_mode: Text,
    xdp_pin: Text,
    cpus: Text,
    vip_mac: Text,
    busy_poll: Number,
    ingress_drop: Switch,
    user: Text,
    pidfile: Text,
    log_file: Text,
    log_format: Text,
    debug: Number,
    daemon: Switch,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    control: Vec<Spanned<String>>,
    allow_exit: Switch,
    standby: Switch,
    flow_entries: Number,
    flow_file: Text,
    peer: Text,
    balance: BalanceTable,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vip: Vec<Spanned<VipTable>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backend: Vec<Spanned<BackendTable>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listen: Vec<Spanned<ListenTable>>,
    proxy: Option<ProxyTable>,
    health: HealthTable,
    timeouts: TimeoutsTable,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    acl: BTreeMap<Spanned<String>, Spanned<Vec<Spanned<String>>>>,
    tarpit: Option<Spanned<TarpitTable>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct BalanceTable {
    hash_port: Switch,
    seed: Text,
    table_size: Number,
    protocol: Text,
    neighbor_interval: Number,
    predecessor: Number,
    slow_start: Number,
    panic_threshold: Number,
    client_acl: Number,
    control_acl: Number,
    emergency: Text,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct VipTable {
    address: Spanned<String>,
    port: Number,
    protocol: Text,
    when_empty: Text,
    client_acl: Number,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BackendTable {
    name: Text,
    host: Text,
    path: Text,
    address: Text,
    mac: Text,
    port: Number,
    weight: Number,
    soft: Number,
    hard: Number,
    prio: Number,
    acl: Number,
    maintenance: Switch,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct HealthTable {
    check: Text,
    port: Number,
    path: Text,
    host: Text,
    status: Option<Spanned<Status>>,
    body: Text,
    payload: Option<Spanned<Bytes>>,
    expect: Option<Spanned<Bytes>>,
    name: Text,
    interval: Number,
    timeout: Number,
    doubt_interval: Number,
    rise: Number,
    fall: Number,
    jitter: Number,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct TimeoutsTable {
    opening: Number,
    established: Number,
    closing: Number,
    udp: Number,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TarpitTable {
    acl: Spanned<i64>,
    rate: Number,
}

/// `200` or `"200-399"`.
#[derive(Debug)]
struct Status(String);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Status;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status (200) or a range of them (\"200-399\")")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Status, E> {
                Ok(Status(number.to_string()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Status, E> {
                Ok(Status(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<i64>() {
            Ok(number) => serializer.serialize_i64(number),
            Err(_) => serializer.serialize_str(&self.0),
        }
    }
}

/// What a datagram holds: a text, or an array of its bytes.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an array of bytes ([0x0d, 0x0a])")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(number) = sequence.next_element::<i64>()? {
                    let byte = u8::try_from(number);
                    bytes.push(byte.map_err(|_| Error::custom(format!("{number} is not a byte from 0 to 255")))?);
                }
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(&self.0),
        }
    }
}

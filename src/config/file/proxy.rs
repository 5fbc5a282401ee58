//! The proxy's tables: `[[listen]]`, with `tls` and `backend-tls` in it, and `[proxy]`.

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{Number, Switch, Text};

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ListenTable {
    pub(super) address: Spanned<String>,
    pub(super) protocol: Text,
    pub(super) mode: Text,
    pub(super) x_forwarded: Switch,
    pub(super) forwarded: Switch,
    pub(super) own_header: Text,
    pub(super) backend_port: Number,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) backends: Vec<Spanned<String>>,
    pub(super) transparent: Switch,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) source: Vec<Spanned<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) accept_proxy: Vec<Spanned<String>>,
    pub(super) send_proxy: Text,
    pub(super) client_acl: Number,
    pub(super) tls: Option<Spanned<TlsTable>>,
    pub(super) backend_tls: Option<Spanned<BackendTlsTable>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct TlsTable {
    pub(super) certificate: Text,
    pub(super) key: Text,
    pub(super) ocsp: Text,
    pub(super) sni_path: Text,
    pub(super) oldest: Text,
    pub(super) newest: Text,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ciphers: Vec<Spanned<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) alpn: Vec<Spanned<String>>,
    pub(super) client_authorities: Text,
    pub(super) client_required: Switch,
    pub(super) tickets: Number,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) name: Vec<Spanned<NameTable>>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NameTable {
    pub(super) name: Spanned<String>,
    pub(super) certificate: Spanned<String>,
    pub(super) key: Text,
    pub(super) ocsp: Text,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct BackendTlsTable {
    pub(super) verify: Switch,
    pub(super) authorities: Text,
    pub(super) name: Text,
    pub(super) certificate: Text,
    pub(super) key: Text,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct ProxyTable {
    pub(super) threads: Number,
    pub(super) chroot: Text,
    pub(super) handover: Text,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) trusted: Vec<Spanned<String>>,
    pub(super) abuse: Text,
    pub(super) selection: SelectionTable,
    pub(super) limits: LimitsTable,
    pub(super) timeouts: ProxyTimeoutsTable,
    pub(super) tcp: TcpTable,
    pub(super) access_log: Option<Spanned<AccessLogTable>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct SelectionTable {
    pub(super) method: Text,
    pub(super) track: Switch,
    pub(super) clients: Number,
    pub(super) tracking: Number,
    pub(super) stubborn: Switch,
    pub(super) hash_port: Switch,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct LimitsTable {
    pub(super) connections: Number,
    pub(super) pending: Number,
    pub(super) accept_batch: Number,
    pub(super) backlog: Number,
    pub(super) head: Number,
    pub(super) idlers: Number,
    pub(super) reuse: Number,
    pub(super) udp_clients: Number,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct ProxyTimeoutsTable {
    pub(super) connect: Number,
    pub(super) idle: Number,
    pub(super) request: Number,
    pub(super) response: Number,
    pub(super) client_fin: Number,
    pub(super) blacklist: Number,
    pub(super) reuse: Number,
    pub(super) udp: Number,
    pub(super) drain: Number,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct TcpTable {
    pub(super) nodelay: Switch,
    pub(super) fastclose: Switch,
    pub(super) keepalive: Number,
    pub(super) splice: Switch,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AccessLogTable {
    pub(super) target: Spanned<String>,
    pub(super) layout: Text,
}

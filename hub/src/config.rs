//! The start file: strict YAML, every field known, every path relative to the file's own folder.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use driftless_protocol::id::ClusterName;
use serde::{Deserialize, Serialize};

/// The start file as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Format, 1.
    pub format: u32,
    /// Keys and certificates, as `driftless-hub init` makes them.
    #[serde(default = "default_keys")]
    pub keys: PathBuf,
    /// Git mirrors; may be lost at any time.
    #[serde(default = "default_mirrors")]
    pub mirrors: PathBuf,
    /// Where the fleet's state is kept.
    #[serde(default)]
    pub store: StoreConfig,
    /// Where agents connect.
    pub fleet: FleetConfig,
    /// Where operators connect.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Git repositories.
    #[serde(default)]
    pub sources: Vec<SourceConfig>,
    /// Credentials for what Git itself declares (GitRepository and OCIRepository objects), by address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// Public keys for `spec.verify` of declared repositories whose Secret Git does not hold in plain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_keys: Vec<TrustedKeysConfig>,
    /// Where clusters find their root and their variables.
    #[serde(default)]
    pub clusters: ClustersConfig,
    /// Renders that run at one time; 0: one per processor.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub render_workers: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_zero(n: &usize) -> bool {
    *n == 0
}

fn default_keys() -> PathBuf {
    PathBuf::from("keys")
}

fn default_mirrors() -> PathBuf {
    PathBuf::from("mirrors")
}

/// Where the fleet's state is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum StoreConfig {
    /// A file.
    Sqlite(PathBuf),
    /// A file that holds `postgres://user:password@host/name`.
    PostgresUrlFile(PathBuf),
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self::Sqlite(PathBuf::from("hub.db"))
    }
}

/// Where agents connect.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetConfig {
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// `host:port` as agents reach it; several are tried in turn. They go into join tokens.
    pub addresses: Vec<String>,
    /// The name in the hub's certificate.
    #[serde(default = "default_server_name")]
    pub server_name: String,
    /// Sessions at one time.
    #[serde(default = "default_sessions")]
    pub max_sessions: usize,
    /// Days after its end in which an agent's certificate may still be renewed with itself, and do nothing else: how long the
    /// hub can be away without enrolling its clusters anew. 0: none, a certificate ends with its last second.
    #[serde(default = "default_renew_expired")]
    pub renew_expired_days: u32,
}

impl FleetConfig {
    /// As [`Self::renew_expired_days`] says.
    #[must_use]
    pub fn renew_expired(&self) -> Duration {
        Duration::from_secs(u64::from(self.renew_expired_days) * 86_400)
    }
}

/// The name in the hub's certificate where none is configured.
#[must_use]
pub fn default_server_name() -> String {
    "hub.driftless.dev".to_owned()
}

fn default_sessions() -> usize {
    10_000
}

/// Days of [`FleetConfig::renew_expired_days`] where none are configured.
#[must_use]
pub const fn default_renew_expired() -> u32 {
    30
}

/// The most that may be configured: beyond it a stolen key would be of use as good as for ever.
const RENEW_EXPIRED_DAYS: u32 = 365;

/// Where operators connect.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AdminConfig {
    /// TCP address for HTTPS with client certificates; none: only the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Further names and addresses in its certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// A local socket, for the hub's own user and root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// One Git repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceConfig {
    /// `namespace/name`; units of the root show it as their source.
    #[serde(default = "default_source")]
    pub name: String,
    /// https, ssh or file.
    pub url: String,
    /// The branch to follow; `main` where none of the five is given, and at most one may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The newest tag in a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semver: Option<String>,
    /// A full reference name.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ref")]
    pub name_of_ref: Option<String>,
    /// A commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Seconds between two fetches.
    #[serde(default = "default_interval")]
    pub interval_seconds: u64,
    /// Who the hub is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// Certificates (PEM) to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A forward proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyConfig>,
    /// A certificate the hub shows there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificateConfig>,
    /// What must be signed, and by whom; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifyConfig>,
    /// Seconds after which a fetch is given up.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u64,
    /// Other addresses of the same repository and reference, as GitRepository objects in Git write them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasConfig>,
}

fn default_source() -> String {
    "flux-system/flux-system".to_owned()
}

const fn default_interval() -> u64 {
    60
}

const fn default_timeout() -> u64 {
    60
}

/// Another address of a repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AliasConfig {
    /// As GitRepository objects write it.
    pub url: String,
    /// Their branch; none: whatever they say.
    #[serde(default)]
    pub branch: Option<String>,
}

/// Who the hub is at a Git host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AuthConfig {
    /// User and password or token, over https.
    Basic {
        /// The user; many hosts take any text beside a token.
        user: String,
        /// Holds the password.
        password_file: PathBuf,
    },
    /// A bearer token, over https.
    Bearer {
        /// Holds the token.
        token_file: PathBuf,
    },
    /// A key.
    Ssh {
        /// The private key.
        identity_file: PathBuf,
        /// Pins the host's keys.
        known_hosts_file: PathBuf,
    },
}

/// A forward proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyConfig {
    /// `http://host:port`.
    pub url: String,
    /// Its user.
    #[serde(default)]
    pub user: Option<String>,
    /// Holds its password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// A certificate and its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCertificateConfig {
    /// The chain, PEM.
    pub certificate_file: PathBuf,
    /// The private key, PEM.
    pub key_file: PathBuf,
}

/// What of a repository must be signed, and by whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyConfig {
    /// Which Git object.
    #[serde(default)]
    pub mode: VerifyModeConfig,
    /// Public keys: `*.sshpub` with lines as in `authorized_keys`, any other file with armoured PGP keys.
    pub key_files: Vec<PathBuf>,
}

/// Which Git object must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VerifyModeConfig {
    /// The commit.
    #[default]
    #[serde(rename = "HEAD")]
    Head,
    /// The tag.
    Tag,
    /// Both.
    #[serde(rename = "TagAndHEAD")]
    TagAndHead,
}

/// Public keys for a declared repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedKeysConfig {
    /// `namespace/name` of the GitRepository.
    pub source: String,
    /// As for a configured source.
    pub key_files: Vec<PathBuf>,
}

/// Credentials for every declared repository whose address begins so.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// What the address begins with, up to a `/`: `https://git.example.com/team`, `oci://registry.example.com/team`. Required
    /// also beside `source`: a commit must not be able to send credentials to another host.
    pub url_prefix: String,
    /// Only for this object: `namespace/name` of a GitRepository, `OCIRepository/namespace/name`. Its credentials are taken
    /// before those of the address alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Who the hub is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// Certificates (PEM) to trust beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A forward proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyConfig>,
    /// A certificate the hub shows there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificateConfig>,
}

impl Credential {
    /// Whether these are for a source at this address. A prefix ends where a name does: `https://git.example.com` is not for
    /// `https://git.example.com.evil.org`.
    #[must_use]
    pub fn fits(&self, label: &str, url: &str) -> bool {
        let rest = url.strip_prefix(&self.url_prefix);
        let whole =
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.url_prefix.ends_with(['/', ':']));
        whole && !self.url_prefix.is_empty() && self.source.as_ref().is_none_or(|s| s == label)
    }
}

/// Where clusters find their root and their variables.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClustersConfig {
    /// For every cluster that has nothing of its own.
    #[serde(rename = "default")]
    pub common: ClusterConfig,
    /// By name; what is not said here is as for all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<ClusterName, ClusterConfig>,
    /// Labels that are variables: label key to variable name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub label_variables: BTreeMap<String, String>,
}

/// Where a cluster finds its root.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// The source, by name; none: the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The root's folder, with `{name}` for the cluster's name; none: `clusters/{name}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The weakest `substituteFrom` of units that have `postBuild`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// ConfigMaps, `namespace/name`, that the cluster's agent is set to tell (`facts.configMaps` of its chart): a unit that
    /// needs one is held until it is told, instead of being filled in the cluster. Those of all and of one add up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expect_facts: Vec<String>,
}

/// Why a start file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the start file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it must be.
    #[error("the start file {} cannot be used: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line where the file itself is.
        reason: String,
    },
}

impl Config {
    /// Reads a start file; relative paths in it are taken from its folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let invalid = |reason: String| ConfigError::Invalid { path: path.to_owned(), reason };
        let mut config: Self = serde_saphyr::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        config.check().map_err(invalid)?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != 1 {
            return Err(format!("format {} is not 1, which is what this program reads", self.format));
        }
        if self.fleet.addresses.is_empty() {
            return Err("fleet.addresses is empty: agents would not know where to connect".into());
        }
        if self.admin.listen.is_none() && self.admin.socket.is_none() {
            return Err("admin has neither listen nor socket: nobody could steer the hub".into());
        }
        let days = self.fleet.renew_expired_days;
        if days > RENEW_EXPIRED_DAYS {
            return Err(format!("fleet.renewExpiredDays is {days}; more than {RENEW_EXPIRED_DAYS} are not taken"));
        }
        let mut names = std::collections::BTreeSet::new();
        for source in &self.sources {
            if !names.insert(&source.name) {
                return Err(format!("the source {} is there twice", source.name));
            }
            if source.references() > 1 {
                return Err(format!(
                    "the source {} names more than one of branch, tag, semver, ref, commit",
                    source.name
                ));
            }
            if let Some(verify) = &source.verify {
                if verify.key_files.is_empty() {
                    return Err(format!(
                        "the source {} has verify without keyFiles: nothing could be fetched",
                        source.name
                    ));
                }
                let tagged = source.tag.is_some() || source.semver.is_some();
                let named = source.name_of_ref.as_ref().is_some_and(|name| name.starts_with("refs/tags/"));
                if verify.mode != VerifyModeConfig::Head && !tagged && !named {
                    return Err(format!("the source {} verifies a tag, but follows none", source.name));
                }
            }
            if source.interval_seconds == 0 {
                return Err(format!("the source {} has an interval of 0 s", source.name));
            }
        }
        for credential in &self.credentials {
            if credential.url_prefix.is_empty() {
                return Err("a credential has an empty urlPrefix: it would be sent anywhere".into());
            }
        }
        let named = self.clusters.named.iter().map(|(name, c)| (name.to_string(), c));
        for (name, cluster) in named.chain([("default".to_owned(), &self.clusters.common)]) {
            if let Some(source) = cluster.source.as_ref().filter(|s| !names.contains(s)) {
                return Err(format!("clusters: {name} names the source {source}, which is not configured"));
            }
        }
        Ok(())
    }

    fn resolve(&mut self, folder: &Path) {
        let at = |path: &mut PathBuf| *path = folder.join(&*path);
        at(&mut self.keys);
        at(&mut self.mirrors);
        match &mut self.store {
            StoreConfig::Sqlite(path) | StoreConfig::PostgresUrlFile(path) => at(path),
        }
        self.admin.socket.as_mut().map(at);
        for source in &mut self.sources {
            resolve_access(
                &mut source.auth,
                &mut source.ca_file,
                &mut source.proxy,
                &mut source.client_certificate,
                &at,
            );
            source.verify.iter_mut().flat_map(|v| &mut v.key_files).for_each(at);
        }
        for credential in &mut self.credentials {
            let (proxy, certificate) = (&mut credential.proxy, &mut credential.client_certificate);
            resolve_access(&mut credential.auth, &mut credential.ca_file, proxy, certificate, &at);
        }
        self.trusted_keys.iter_mut().flat_map(|t| &mut t.key_files).for_each(at);
    }
}

fn resolve_access(
    auth: &mut Option<AuthConfig>,
    ca: &mut Option<PathBuf>,
    proxy: &mut Option<ProxyConfig>,
    certificate: &mut Option<ClientCertificateConfig>,
    at: &impl Fn(&mut PathBuf),
) {
    if let Some(certificate) = certificate {
        at(&mut certificate.certificate_file);
        at(&mut certificate.key_file);
    }
    match auth {
        Some(AuthConfig::Basic { password_file, .. }) => at(password_file),
        Some(AuthConfig::Bearer { token_file }) => at(token_file),
        Some(AuthConfig::Ssh { identity_file, known_hosts_file }) => {
            at(identity_file);
            at(known_hosts_file);
        }
        None => {}
    }
    ca.as_mut().map(at);
    proxy.as_mut().and_then(|p| p.password_file.as_mut()).map(at);
}

impl SourceConfig {
    /// A public repository at a branch.
    #[must_use]
    pub fn new(name: impl Into<String>, url: impl Into<String>, branch: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            branch: Some(branch.into()),
            tag: None,
            semver: None,
            name_of_ref: None,
            commit: None,
            interval_seconds: default_interval(),
            auth: None,
            ca_file: None,
            proxy: None,
            client_certificate: None,
            verify: None,
            timeout_seconds: default_timeout(),
            aliases: Vec::new(),
        }
    }

    fn references(&self) -> usize {
        [&self.branch, &self.tag, &self.semver, &self.name_of_ref, &self.commit].into_iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r"
format: 1
store: {postgresUrlFile: secrets/url}
fleet: {listen: '0.0.0.0:8443', addresses: ['hub.example.org:8443']}
admin: {socket: admin.sock}
sources:
- name: team/apps
  url: https://git.example.org/team/apps
  tag: v1
  auth: {basic: {user: git, passwordFile: secrets/password}}
  caFile: /etc/ca.pem
  verify: {mode: Tag, keyFiles: [keys/ada.sshpub]}
credentials:
- urlPrefix: oci://registry.example.org/team
  source: OCIRepository/team/apps
  auth: {basic: {user: git, passwordFile: secrets/password}}
  clientCertificate: {certificateFile: c.pem, keyFile: k.pem}
trustedKeys: [{source: team/other, keyFiles: [keys/bob.sshpub]}]
clusters:
  default: {root: 'fleet/{name}'}
  named: {prod: {source: team/apps, variables: {REGION: eu}}}
  labelVariables: {env: ENVIRONMENT}
";

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.yaml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn paths_are_taken_from_the_files_own_folder() {
        let config = load(GOOD).unwrap();
        let folder = config.keys.parent().unwrap().to_path_buf();
        assert_eq!(config.mirrors, folder.join("mirrors"));
        assert!(matches!(&config.store, StoreConfig::PostgresUrlFile(p) if *p == folder.join("secrets/url")));
        assert_eq!(config.admin.socket, Some(folder.join("admin.sock")));
        let source = &config.sources[0];
        assert!(
            matches!(&source.auth, Some(AuthConfig::Basic { password_file, .. }) if *password_file == folder.join("secrets/password"))
        );
        assert_eq!(source.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")), "an absolute one stays");
        assert_eq!(source.interval_seconds, 60);
        assert_eq!(config.fleet.renew_expired(), Duration::from_secs(30 * 86_400));
        let off = load(&GOOD.replacen("{listen:", "{renewExpiredDays: 0, listen:", 1)).unwrap();
        assert_eq!(off.fleet.renew_expired(), Duration::ZERO);
        assert_eq!(source.verify.as_ref().unwrap().key_files, [folder.join("keys/ada.sshpub")]);
        assert_eq!(config.trusted_keys[0].key_files, [folder.join("keys/bob.sshpub")]);
        assert_eq!(config.credentials[0].client_certificate.as_ref().unwrap().key_file, folder.join("k.pem"));
    }

    #[test]
    fn every_mistake_is_named() {
        let cases = [
            ("format: 1", "format: 2", "format 2"),
            ("format: 1", "format: 1\nfromat: 1", "fromat"),
            ("tag: v1", "tag: v1\n  branch: main", "more than one"),
            ("tag: v1", "tag: v1\n  intervalSeconds: 0", "interval"),
            ("passwordFile", "password", "password"),
            ("addresses: ['hub.example.org:8443']", "addresses: []", "addresses"),
            ("{socket: admin.sock}", "{}", "admin"),
            ("{listen:", "{renewExpiredDays: 400, listen:", "renewExpiredDays"),
            ("{listen:", "{renewExpiredDays: -1, listen:", "renewExpiredDays"),
            ("source: team/apps", "source: team/other", "team/other"),
            ("sources:", "sources:\n- {name: team/apps, url: 'https://x.example.org/y'}", "twice"),
            ("format: 1", "format: 1\nformat: 1", "format"),
            ("keyFiles: [keys/ada.sshpub]", "keyFiles: []", "without keyFiles"),
            ("tag: v1", "branch: main", "verifies a tag"),
            ("mode: Tag", "mode: Sometimes", "Sometimes"),
            ("oci://registry.example.org/team", "''", "urlPrefix"),
        ];
        for (from, to, wanted) in cases {
            assert!(GOOD.contains(from), "{from}");
            let error = load(&GOOD.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(wanted), "{to}: {error}");
            assert!(error.contains("hub.yaml"), "{error}");
        }
    }

    #[test]
    fn credentials_fit_whole_names_only() {
        let credential = |prefix: &str, source: Option<&str>| Credential {
            url_prefix: prefix.into(),
            source: source.map(str::to_owned),
            auth: None,
            ca_file: None,
            proxy: None,
            client_certificate: None,
        };
        for (prefix, source, label, url, expected) in [
            ("https://git.example.com", None, "a/b", "https://git.example.com/x", true),
            ("https://git.example.com", None, "a/b", "https://git.example.com.evil.org/x", false),
            ("https://git.example.com", None, "a/b", "https://git.example.com@evil.org/x", false),
            ("https://git.example.com/team", None, "a/b", "https://git.example.com/team-two/x", false),
            ("https://git.example.com/team/", None, "a/b", "https://git.example.com/team/x", true),
            ("https://git.example.com/team", None, "a/b", "https://git.example.com/team", true),
            ("git@example.org:", None, "a/b", "git@example.org:x/y", true),
            ("oci://r.example.org", Some("OCIRepository/a/b"), "OCIRepository/a/b", "oci://r.example.org/x", true),
            ("oci://r.example.org", Some("OCIRepository/a/b"), "OCIRepository/a/c", "oci://r.example.org/x", false),
            ("", None, "a/b", "https://git.example.com/x", false),
        ] {
            assert_eq!(credential(prefix, source).fits(label, url), expected, "{prefix} {url}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let config = load(GOOD).unwrap();
        let text = serde_saphyr::to_string(&config).unwrap();
        assert_eq!(format!("{:?}", load(&text).unwrap()), format!("{config:?}"), "{text}");
        assert!(!text.contains("null"), "{text}");
    }
}

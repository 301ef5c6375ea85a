//! `driftless-hub init`: keys, authorities, trust document 1, the database, a start file and an operator's context.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use driftless_protocol::api::Context;
use driftless_protocol::signing::{Purpose, SecretKey};
use driftless_protocol::trust::TrustDocument;
use driftless_store::{Act, Location, Store, StoreError};

use crate::config::{AdminConfig, Config, FleetConfig, SourceConfig, StoreConfig, default_renew_expired};
use crate::keys::{self, KeyError, write_key, write_new};
use crate::pki::{Authority, PkiError, random};

/// How long trust document 1 lasts; every later one too.
const TRUST_SECONDS: u64 = 365 * 86_400;

/// What to make.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The folder for everything; made when it is not there.
    pub dir: PathBuf,
    /// `host:port` as agents reach the hub.
    pub addresses: Vec<String>,
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// TCP address of the admin API.
    pub admin_listen: SocketAddr,
    /// `host:port` as operators reach it.
    pub admin_address: String,
    /// The name in the hub's certificate.
    pub server_name: String,
    /// The file of the operator's context.
    pub context: PathBuf,
    /// The repository, if it is known already.
    pub source: Option<(String, String)>,
    /// The root's folder, with `{name}` for the cluster's name.
    pub root: Option<String>,
}

/// Why it was not done. What was written stays: look at it, remove it, start again.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a hub in this folder.
    #[error("{} exists: there is a hub in this folder, and its keys are never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A folder cannot be made.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value cannot be written.
    #[error("cannot write {what}: {reason}")]
    Unwritable {
        /// Which file.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// Makes everything a hub needs. The start file is `hub.yaml` in the folder.
///
/// # Errors
/// See [`InitError`].
pub async fn init(options: &InitOptions, now: u64) -> Result<PathBuf, InitError> {
    let config_path = options.dir.join("hub.yaml");
    for path in [&config_path, &options.context] {
        if path.exists() {
            return Err(InitError::Exists { path: path.clone() });
        }
    }
    let config = start_file(options);
    let folder = options.dir.join("keys");
    private_folder(&options.dir)?;
    private_folder(&folder)?;
    if let Some(parent) = options.context.parent().filter(|p| !p.as_os_str().is_empty()) {
        private_folder(parent)?;
    }

    let root = SecretKey::from_seed(&random()?);
    let signer = SecretKey::from_seed(&random()?);
    write_key(&folder.join(keys::ROOT_KEY), &root.seed())?;
    write_key(&folder.join(keys::SIGNER_KEY), &signer.seed())?;
    write_key(&folder.join(keys::RESET_KEY), &random()?)?;
    write_key(&folder.join(keys::TOKEN_KEY), &random()?)?;
    let ca = authority(&folder, keys::CA, "Driftless fleet", now)?;
    let admin_ca = authority(&folder, keys::ADMIN_CA, "Driftless operators", now)?;

    let document = TrustDocument {
        format: 1,
        version: 1,
        trust_epoch: 1,
        roots: vec![root.public()],
        root_threshold: 1,
        signers: vec![signer.public()],
        signer_threshold: 1,
        authorities: vec![ca.digest()],
        issued: now,
        expires: now + TRUST_SECONDS,
    };
    let signed = root.sign(Purpose::Trust, &document).map_err(|e| unwritable("trust document 1", e))?;
    keys::write_trust(&folder, &signed)?;
    let store = Store::open(&Location::Sqlite(options.dir.join("hub.db")), now).await?;
    store.add_trust_document(1, signed).await?;
    let act = Act {
        at: now * 1000,
        actor: "driftless-hub init".into(),
        action: "init".into(),
        target: "hub".into(),
        detail: format!("root key {}, signer key {}", root.public().id(), signer.public().id()),
    };
    store.audit(act).await?;
    store.close().await;

    let admin = admin_ca.issue_admin("admin", now)?;
    let context = Context {
        format: 1,
        address: options.admin_address.clone(),
        server_name: options.server_name.clone(),
        authority: admin_ca.pem().to_owned(),
        certificate: admin.pem.clone(),
        key: admin.key.serialize_pem(),
    };
    let text = serde_saphyr::to_string(&context).map_err(|e| unwritable("the context file", e))?;
    write_new(&options.context, text.as_bytes(), 0o600)?;
    let text = serde_saphyr::to_string(&config).map_err(|e| unwritable("the start file", e))?;
    write_new(&config_path, text.as_bytes(), 0o600)?;
    Ok(config_path)
}

fn start_file(options: &InitOptions) -> Config {
    let mut config = Config {
        format: 1,
        keys: "keys".into(),
        mirrors: "mirrors".into(),
        store: StoreConfig::default(),
        fleet: FleetConfig {
            listen: options.listen,
            addresses: options.addresses.clone(),
            server_name: options.server_name.clone(),
            max_sessions: 10_000,
            renew_expired_days: default_renew_expired(),
        },
        admin: AdminConfig { listen: Some(options.admin_listen), names: Vec::new(), socket: Some("admin.sock".into()) },
        sources: Vec::new(),
        credentials: Vec::new(),
        trusted_keys: Vec::new(),
        clusters: crate::config::ClustersConfig::default(),
        render_workers: 0,
    };
    config.clusters.common.root.clone_from(&options.root);
    if let Some((url, branch)) = &options.source {
        config.sources.push(SourceConfig::new("flux-system/flux-system", url, branch));
    }
    config
}

fn unwritable(what: &'static str, error: impl std::fmt::Display) -> InitError {
    InitError::Unwritable { what, reason: error.to_string() }
}

fn authority(folder: &Path, file: &str, name: &str, now: u64) -> Result<Authority, InitError> {
    let (certificate, key) = Authority::create(name, now)?;
    write_new(&folder.join(format!("{file}.crt")), certificate.as_bytes(), 0o644)?;
    let key = zeroize::Zeroizing::new(key);
    write_new(&folder.join(format!("{file}.key")), key.as_bytes(), 0o600)?;
    Ok(Authority::load(certificate, &key)?)
}

fn private_folder(path: &Path) -> Result<(), InitError> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| InitError::Folder { path: path.to_owned(), source })
}

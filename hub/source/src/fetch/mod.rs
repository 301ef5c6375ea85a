//! One fetch, from the wish to objects in the mirror. Everything here blocks.

use std::path::Path;

use gix::bstr::ByteSlice as _;
use gix::protocol::transport::client::blocking_io::Transport as GitTransport;
use gix::remote::Direction;
use gix::remote::fetch::Tags;
use gix::remote::ref_map;

mod classify;
mod http;
mod local;
mod meter;
mod ssh;

pub(crate) use classify::Peer;
pub(crate) use http::Parts;
pub(crate) use meter::Meter;

use crate::config::{Auth, Reference, SourceConfig};
use crate::error::Cause;
use crate::store::{INCOMING_REF, Repo};
use crate::url::Transport;

/// What a fetch brought. The objects are in the repository; nothing points at them yet.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) commit: gix::ObjectId,
    /// The tag object that led to it, where there is one.
    pub(crate) tag: Option<gix::ObjectId>,
    /// What the revision is called: the branch or tag.
    pub(crate) name: String,
    pub(crate) objects: u64,
}

/// A transport ready for the handshake.
struct Connection {
    transport: Box<dyn GitTransport + Send>,
    options: Option<Box<dyn std::any::Any>>,
    ssh: Option<ssh::Ssh>,
}

/// Refuses a configuration that cannot work, before anything is sent.
pub(crate) fn check_config(config: &SourceConfig) -> Result<(), Cause> {
    let invalid = |reason: String| Err(Cause::ConfigInvalid { reason });
    match &config.reference {
        Reference::Commit { id, .. } => {
            if gix::ObjectId::from_hex(id.as_bytes()).is_err() || id.len() != 40 {
                return invalid(format!("{id:?} is not a full commit id of 40 hex digits"));
            }
        }
        Reference::Semver(range) => {
            crate::semver::Range::parse(range).map_err(|e| Cause::ConfigInvalid { reason: e })?;
        }
        other => {
            let name = full_name(other);
            if gix::validate::reference::name(name.as_bytes().as_bstr()).is_err() {
                return invalid(format!("{name:?} is not the name of a Git reference"));
            }
        }
    }
    match config.url.transport() {
        Transport::Https | Transport::Http => http::check(config),
        Transport::Ssh => ssh::check(config),
        Transport::File if matches!(config.auth, Auth::None) => Ok(()),
        Transport::File => invalid("a file repository takes no credentials".to_owned()),
    }
}

/// The full name of a reference that has one.
fn full_name(reference: &Reference) -> String {
    match reference {
        Reference::Branch(name) => format!("refs/heads/{name}"),
        Reference::Tag(name) => format!("refs/tags/{name}"),
        Reference::Name(name) => name.clone(),
        Reference::Semver(_) => "refs/tags/*".to_owned(),
        Reference::Commit { id, .. } => id.clone(),
    }
}

/// What a revision of this reference is called, as Flux does: `main`, `v1.2.3`; nothing for a bare commit.
fn shown_name(full: &str) -> String {
    full.strip_prefix("refs/heads/").or_else(|| full.strip_prefix("refs/tags/")).unwrap_or(full).to_owned()
}

/// Brings the wanted commit with its history into `repo`.
pub(crate) fn run(
    config: &SourceConfig,
    dir: &Path,
    repo: &Repo,
    seen_before: bool,
    meter: &Meter,
) -> Result<Outcome, Cause> {
    if let Reference::Commit { id, branch } = &config.reference {
        let name = branch.clone().unwrap_or_default();
        let local = repo.local();
        if seen_before
            && let Ok(commit) = gix::ObjectId::from_hex(id.as_bytes())
            && local.find_commit(commit).is_ok()
        {
            return Ok(Outcome { commit, tag: None, name, objects: 0 }); // a commit never changes: nothing to ask
        }
    }
    match config.url.transport() {
        Transport::File => local::run(config, repo, seen_before, meter),
        _ => Remote { config, dir, repo, meter }.run(seen_before),
    }
}

/// A repository behind a connection.
struct Remote<'a> {
    config: &'a SourceConfig,
    dir: &'a Path,
    repo: &'a Repo,
    meter: &'a Meter,
}

/// A reference as the host lists it.
struct Listed {
    name: String,
}

impl Remote<'_> {
    fn run(&self, seen_before: bool) -> Result<Outcome, Cause> {
        let wanted = match &self.config.reference {
            Reference::Semver(range) => {
                let tags = self.list("refs/tags/*")?;
                let tags = tags.iter().filter_map(|l| l.name.strip_prefix("refs/tags/"));
                match crate::semver::newest(range, tags) {
                    Some(tag) => format!("refs/tags/{tag}"),
                    None => return Err(self.missing(seen_before)),
                }
            }
            other => full_name(other),
        };
        let ((commit, tag), objects) = match self.receive(&wanted) {
            Ok(Some(received)) => received,
            Ok(None) => return Err(self.missing(seen_before)),
            Err(cause) => match &self.config.reference {
                // Few hosts refuse a commit by its id; those serve it by the branch that holds it.
                Reference::Commit { id, branch: Some(branch) } if matches!(cause, Cause::HostFailed { .. }) => {
                    self.receive(&format!("refs/heads/{branch}"))?;
                    let commit = gix::ObjectId::from_hex(id.as_bytes()).ok();
                    self.repo.reopen(&self.config.limits).map_err(|_| damaged("the mirror cannot be opened again"))?;
                    match commit.filter(|c| self.repo.local().find_commit(*c).is_ok()) {
                        Some(commit) => ((commit, None), 0),
                        None => return Err(self.missing(seen_before)),
                    }
                }
                _ => return Err(cause),
            },
        };
        let name = match &self.config.reference {
            Reference::Commit { branch, .. } => branch.clone().unwrap_or_default(),
            _ => shown_name(&wanted),
        };
        Ok(Outcome { commit, tag, name, objects })
    }

    fn connect(&self) -> Result<Connection, Cause> {
        self.meter.phase(self.config.limits.advertisement_bytes, Cause::TooManyRefs { limit: self.config.limits.refs });
        match self.config.url.transport() {
            Transport::Ssh => ssh::connect(self.config, self.dir, self.meter),
            _ => http::connect(self.config, self.meter),
        }
    }

    /// Opens a connection and runs `talk` on it; turns whatever goes wrong into a cause.
    fn talk<T>(
        &self,
        refspec: &str,
        talk: impl FnOnce(
            &gix::Repository,
            gix::remote::Connection<'_, '_, '_, Box<dyn GitTransport + Send>>,
        ) -> gix::Result<Result<T, Cause>>,
    ) -> Result<T, Cause> {
        let local = self.repo.local();
        let url = self.config.url.anonymous();
        let remote = local
            .remote_at_without_url_rewrite(url)
            .map(|r| r.with_fetch_tags(Tags::None))
            .and_then(|r| r.with_refspecs([refspec], Direction::Fetch))
            .map_err(|_| Cause::ConfigInvalid { reason: format!("{refspec:?} cannot be asked for") })?;
        let Connection { transport, options, ssh } = self.connect()?;
        let refused = std::cell::Cell::new(false);
        let mut connection = remote
            .to_connection_with_transport(transport)
            // Ours were sent with the first request; there is nobody to ask for others.
            .with_credentials(|_| {
                refused.set(true);
                Ok(None)
            });
        // An explicit empty set, or gix would read options from the environment.
        connection.set_transport_options(options.unwrap_or_else(|| Box::new(())));
        let result = talk(&local, connection);
        let words = ssh.map(ssh::Ssh::finish).unwrap_or_default();
        match result {
            Ok(done) => done,
            Err(e) => Err(self
                .meter
                .stopped()
                .or_else(|| refused.get().then(|| classify::unauthorized(self.config)))
                .or_else(|| ssh::classify(&words, self.config))
                .unwrap_or_else(|| classify::classify(&e, self.config))),
        }
    }

    /// The references under a pattern such as `refs/heads/*`.
    fn list(&self, pattern: &str) -> Result<Vec<Listed>, Cause> {
        let limit = self.config.limits.refs;
        self.talk(&format!("+{pattern}:{pattern}"), |_, connection| {
            let (map, _) = connection.ref_map(gix::progress::Discard, ref_map::Options::default())?;
            if map.remote_refs.len() > limit {
                return Ok(Err(Cause::TooManyRefs { limit }));
            }
            let named = map.remote_refs.iter().map(|r| Listed { name: r.unpack().0.to_string() });
            Ok(Ok(named.collect()))
        })
    }

    /// Fetches one reference or object. `None`: the host does not have it.
    fn receive(&self, wanted: &str) -> Result<Option<(Peeled, u64)>, Cause> {
        let limits = &self.config.limits;
        self.talk(&format!("+{wanted}:{INCOMING_REF}"), |local, connection| {
            let prepare = connection.prepare_fetch(gix::progress::Discard, ref_map::Options::default())?;
            let map = prepare.ref_map();
            if map.remote_refs.len() > limits.refs {
                return Ok(Err(Cause::TooManyRefs { limit: limits.refs }));
            }
            if map.object_hash != gix::hash::Kind::Sha1 {
                let reason = "it uses SHA-256 object ids, which are not supported yet".to_owned();
                return Ok(Err(Cause::ProtocolUnsupported { reason }));
            }
            let Some(tip) = map.mappings.first().and_then(|m| m.remote.as_id()).map(ToOwned::to_owned) else {
                return Ok(Ok(None));
            };
            self.meter.phase(limits.pack_bytes, Cause::PackTooLarge { limit: limits.pack_bytes });
            let outcome = prepare.receive(gix::progress::Discard, self.meter.flag())?;
            let objects = match &outcome.status {
                gix::remote::fetch::Status::Change { write_pack_bundle, .. } => {
                    u64::from(write_pack_bundle.index.num_objects)
                }
                gix::remote::fetch::Status::NoPackReceived { .. } => 0,
            };
            Ok(peel(local, tip).map(|commit| Some((commit, objects))))
        })
    }

    /// Why a reference is not there.
    fn missing(&self, seen_before: bool) -> Cause {
        let reference = self.config.reference.to_string();
        if seen_before {
            return Cause::ReferenceVanished { reference };
        }
        let names = |pattern: &str, prefix: &str| -> Option<Vec<String>> {
            let listed = self.list(pattern).ok()?;
            Some(listed.iter().filter_map(|l| l.name.strip_prefix(prefix)).map(str::to_owned).collect())
        };
        missing(&self.config.reference, names("refs/heads/*", "refs/heads/"), names("refs/tags/*", "refs/tags/"))
    }
}

/// Why a reference that was never seen is not there, from what is there; `None`: that could not be found out.
fn missing(reference: &Reference, branches: Option<Vec<String>>, tags: Option<Vec<String>>) -> Cause {
    if branches.as_ref().is_some_and(Vec::is_empty) && tags.as_ref().is_some_and(Vec::is_empty) {
        return Cause::RepositoryEmpty;
    }
    let available = match reference {
        Reference::Tag(_) | Reference::Semver(_) => tags,
        _ => branches,
    };
    Cause::ReferenceNotFound { reference: reference.to_string(), available: available.unwrap_or_default() }
}

/// A commit, and the tag object that led to it.
type Peeled = (gix::ObjectId, Option<gix::ObjectId>);

/// Follows tags to their commit.
fn peel(local: &gix::Repository, tip: gix::ObjectId) -> Result<Peeled, Cause> {
    let object = local.find_object(tip).map_err(|_| damaged("the fetched commit cannot be read"))?;
    let tag = (object.kind == gix::object::Kind::Tag).then_some(tip);
    match object.peel_to_kind(gix::object::Kind::Commit) {
        Ok(commit) => Ok((commit.id, tag)),
        Err(_) => Err(Cause::CommitUnusable { reason: format!("{} does not lead to a commit", tip.to_hex()) }),
    }
}

fn damaged(reason: &str) -> Cause {
    Cause::Corrupt { reason: reason.to_owned() }
}

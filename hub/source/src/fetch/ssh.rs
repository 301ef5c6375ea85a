//! ssh: the one program this hub starts, with fixed arguments.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::git::{ConnectMode, blocking_io};

use super::Connection;
use super::meter::{Meter, Metered};
use crate::config::{Auth, SourceConfig, SshAuth, SshIdentity};
use crate::error::Cause;
use crate::scrub::scrub;

/// Words of ssh that are kept, in bytes.
const STDERR_KEPT: u64 = 8 << 10;

/// Refuses what could not work before ssh is started.
pub(super) fn check(config: &SourceConfig) -> Result<(), Cause> {
    let invalid = |reason: &str| Err(Cause::ConfigInvalid { reason: reason.to_owned() });
    let Auth::Ssh(auth) = &config.auth else {
        return invalid("an ssh URL needs an ssh key and known_hosts in the source's configuration");
    };
    if auth.known_hosts.trim().is_empty() {
        return invalid("`known_hosts` is empty: without the host's key no ssh host can be trusted");
    }
    if config.url.user().is_none() {
        return invalid("the ssh URL names no user; most hosts want git@");
    }
    Ok(())
}

/// Key and known hosts as files, for the time of a fetch.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    identity: PathBuf,
    known_hosts: PathBuf,
}

impl Files {
    fn write(dir: &Path, auth: &SshAuth) -> io::Result<Self> {
        let folder = dir.join("keys");
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let put = |name: &str, text: &str| -> io::Result<PathBuf> {
            let path = folder.join(name);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            if !text.ends_with('\n') {
                file.write_all(b"\n")?; // ssh refuses a key whose last line is not ended
            }
            Ok(path)
        };
        let known_hosts = put("known_hosts", &auth.known_hosts)?;
        let identity = match &auth.identity {
            SshIdentity::File(path) => path.clone(),
            SshIdentity::Text(key) => put("identity", key.expose())?,
        };
        Ok(Files { folder, identity, known_hosts })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(error = %e, "cannot remove the folder with the ssh key of a finished fetch");
        }
    }
}

/// The arguments of ssh. Every option that could run a program, ask a question or trust another key is fixed here; user,
/// host and path were vetted when the URL was read.
fn arguments(config: &SourceConfig, identity: &Path, known_hosts: &Path) -> Vec<OsString> {
    let mut out: Vec<OsString> = ["-F", "/dev/null", "-T", "-x", "-a"].map(OsString::from).into();
    let mut option = |name: &str, value: &std::ffi::OsStr| {
        out.push("-o".into());
        let mut text = OsString::from(format!("{name}="));
        text.push(value);
        out.push(text);
    };
    for (name, value) in [
        ("BatchMode", "yes"),
        ("StrictHostKeyChecking", "yes"),
        ("GlobalKnownHostsFile", "/dev/null"),
        ("UpdateHostKeys", "no"),
        ("VerifyHostKeyDNS", "no"),
        ("IdentitiesOnly", "yes"),
        ("IdentityAgent", "none"),
        ("PreferredAuthentications", "publickey"),
        ("PasswordAuthentication", "no"),
        ("KbdInteractiveAuthentication", "no"),
        ("ProxyCommand", "none"),
        ("PermitLocalCommand", "no"),
        ("ControlMaster", "no"),
        ("ControlPath", "none"),
        ("ClearAllForwardings", "yes"),
        ("ConnectTimeout", "20"),
        ("ServerAliveInterval", "15"),
        ("SetEnv", "GIT_PROTOCOL=version=2"),
        ("LogLevel", "ERROR"),
    ] {
        option(name, value.as_ref());
    }
    option("UserKnownHostsFile", &quoted(known_hosts));
    option("IdentityFile", &quoted(identity));
    if let Some(port) = config.url.port() {
        out.push("-p".into());
        out.push(port.to_string().into());
    }
    out.push("-l".into());
    out.push(config.url.user().unwrap_or("git").into());
    out.push("--".into());
    out.push(config.url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').into());
    out.push(format!("git-upload-pack {}", shell_quote(&config.url.path())).into());
    out
}

/// ssh reads option values as words and expands `%`.
fn quoted(path: &Path) -> OsString {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%")).into()
}

/// For the shell on the other side.
fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A running ssh. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(super) struct Ssh {
    child: Arc<Mutex<Child>>,
    words: Option<JoinHandle<String>>,
    _files: Files,
}

impl Ssh {
    /// Ends it and returns what it said.
    pub(super) fn finish(mut self) -> String {
        end(&self.child);
        self.words.take().and_then(|w| w.join().ok()).unwrap_or_default()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        end(&self.child);
        if let Some(words) = self.words.take() {
            drop(words.join());
        }
    }
}

fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(None) = child.try_wait() {
        // When the session is over ssh ends by itself; give its last words a moment before it is killed.
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
        }
        drop(child.kill());
        drop(child.wait());
    }
}

pub(super) fn connect(config: &SourceConfig, dir: &Path, meter: &Meter) -> Result<Connection, Cause> {
    let Auth::Ssh(auth) = &config.auth else {
        return Err(Cause::ConfigInvalid { reason: "an ssh URL needs an ssh key".to_owned() });
    };
    let files = Files::write(dir, auth)
        .map_err(|e| Cause::Disk { reason: format!("the ssh key cannot be written for the fetch: {e}") })?;
    let unavailable = |e: &dyn std::fmt::Display| Cause::SshUnavailable { reason: e.to_string() };
    let mut command = Command::new(&config.ssh_program);
    command
        .args(arguments(config, &files.identity, &files.known_hosts))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path); // to find the program itself
    }
    let mut child = command.spawn().map_err(|e| unavailable(&e))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let child = Arc::new(Mutex::new(child));
    let mut ssh = Ssh { child: child.clone(), words: None, _files: files };
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err(unavailable(&"its pipes are missing"));
    };
    ssh.words = Some(std::thread::spawn(move || {
        let mut stderr = stderr;
        let mut kept = Vec::new();
        drop(stderr.by_ref().take(STDERR_KEPT).read_to_end(&mut kept));
        drop(io::copy(&mut stderr, &mut io::sink())); // a full pipe would block ssh
        String::from_utf8_lossy(&kept).into_owned()
    }));
    meter.on_stop(move || {
        drop(child.lock().unwrap_or_else(PoisonError::into_inner).kill());
    });
    let transport = blocking_io::Connection::new(
        Metered::new(stdout, meter.clone()),
        stdin,
        Protocol::V2,
        config.url.path(),
        None::<(&str, _)>,
        ConnectMode::Process,
        false,
    );
    Ok(Connection { transport: Box::new(transport), options: None, ssh: Some(ssh) })
}

/// What ssh meant. None: its words say nothing we know.
pub(super) fn classify(words: &str, config: &SourceConfig) -> Option<Cause> {
    let host = config.url.host().unwrap_or_default().to_owned();
    let has = |needles: &[&str]| {
        let lower = words.to_ascii_lowercase();
        needles.iter().any(|n| lower.contains(n))
    };
    let reason = || scrub(words, &config.secrets());
    if has(&["host key verification failed", "identification has changed", "no matching host key"]) {
        return Some(Cause::HostKeyUntrusted { host });
    }
    if has(&["could not resolve hostname", "name or service not known"]) {
        return Some(Cause::HostUnknown { host });
    }
    if has(&["permission denied", "too many authentication failures", "load key", "no such identity"]) {
        return Some(Cause::AuthRefused { sent: true, reason: reason() });
    }
    if has(&[
        "does not appear to be a git repository",
        "repository not found",
        "not a git repository",
        "no such project",
    ]) {
        return Some(Cause::RepositoryNotFound);
    }
    if has(&[
        "connection refused",
        "timed out",
        "no route to host",
        "network is unreachable",
        "connection closed",
        "connection reset",
    ]) {
        return Some(Cause::HostUnreachable { host, reason: reason() });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Reference, Secret};
    use crate::url::SourceUrl;

    fn config(url: &str) -> SourceConfig {
        let mut config = SourceConfig::new("a/b", SourceUrl::parse(url).unwrap(), Reference::Branch("main".into()));
        config.auth = Auth::Ssh(SshAuth {
            identity: SshIdentity::Text(Secret::new("canary key")),
            known_hosts: "example.org ssh-ed25519 AAAA".into(),
        });
        config
    }

    #[test]
    fn the_command_line_is_fixed() {
        let config = config("ssh://git@example.org:2222/team/it's.git");
        let arguments: Vec<String> = arguments(&config, Path::new("/d/keys/100%"), Path::new("/d/keys/known_hosts"))
            .into_iter()
            .map(|a| a.into_string().unwrap())
            .collect();
        for needed in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "ProxyCommand=none",
            "UserKnownHostsFile=\"/d/keys/known_hosts\"",
            "GlobalKnownHostsFile=/dev/null",
            "IdentityFile=\"/d/keys/100%%\"",
        ] {
            assert!(arguments.iter().any(|a| a == needed), "{needed} is missing in {arguments:?}");
        }
        let tail: Vec<&str> = arguments[arguments.len() - 7..].iter().map(String::as_str).collect();
        assert_eq!(tail, ["-p", "2222", "-l", "git", "--", "example.org", "git-upload-pack '/team/it'\\''s.git'"]);
        assert!(!arguments.concat().contains("canary"));
    }

    #[test]
    fn a_key_is_readable_by_its_owner_alone_and_goes_with_the_fetch() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let Auth::Ssh(auth) = config("git@h:p").auth else { unreachable!() };
        let files = Files::write(dir.path(), &auth).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.identity), mode(&files.folder)), (0o600, 0o700));
        assert_eq!(fs::read_to_string(&files.identity).unwrap(), "canary key\n");
        drop(files);
        assert!(!dir.path().join("keys").exists());
    }

    #[test]
    fn the_words_of_ssh_are_understood() {
        let config = config("ssh://git@example.org/p");
        let check = |words: &str, code: Option<&str>| {
            assert_eq!(classify(words, &config).as_ref().map(Cause::code), code, "{words}");
        };
        check("Host key verification failed.", Some("HostKeyUntrusted"));
        check("git@example.org: Permission denied (publickey).", Some("AuthRefused"));
        check("ssh: Could not resolve hostname example.org: Name or service not known", Some("HostUnknown"));
        check("ssh: connect to host example.org port 22: Connection refused", Some("HostUnreachable"));
        check("fatal: '/p' does not appear to be a git repository", Some("RepositoryNotFound"));
        check("ERROR: Repository not found.", Some("RepositoryNotFound"));
        check("something else", None);
    }

    #[test]
    fn an_ssh_source_needs_key_known_hosts_and_user() {
        assert_eq!(check(&config("ssh://git@h/p")), Ok(()));
        assert_eq!(check(&config("ssh://h/p")).unwrap_err().code(), "ConfigInvalid");
        let mut no_key = config("ssh://git@h/p");
        no_key.auth = Auth::None;
        assert_eq!(check(&no_key).unwrap_err().code(), "ConfigInvalid");
        let mut no_hosts = config("ssh://git@h/p");
        if let Auth::Ssh(auth) = &mut no_hosts.auth {
            auth.known_hosts = " \n".into();
        }
        assert_eq!(check(&no_hosts).unwrap_err().code(), "ConfigInvalid");
    }
}

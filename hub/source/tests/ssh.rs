//! ssh against a real server on loopback, where one is installed; elsewhere these tests say that they did nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Origin, config, fails, fetch, open};
use driftless_source::config::{SshAuth, SshIdentity};
use driftless_source::{Auth, Secret, SourceConfig};

struct Sshd {
    child: Child,
    port: u16,
    user: String,
    dir: tempfile::TempDir,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Sshd {
    /// None: there is no server here that could be started, which fails the test: a real part is never skipped.
    fn start() -> Option<Self> {
        // The server opens its port itself, so another program can be quicker: then another port.
        (0..5).find_map(|_| Self::start_once())
    }

    fn start_once() -> Option<Self> {
        let program = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"].map(PathBuf::from);
        let program = program.into_iter().find(|p| p.exists())?;
        let user = run("id", &["-un"])?;
        if user == "root" && !Path::new("/run/sshd").is_dir() {
            return None; // a root server insists on this folder, which its package's service makes
        }
        let dir = tempfile::tempdir().ok()?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        for key in ["host", "client", "other"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)])?;
        }
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAcceptEnv GIT_PROTOCOL\n",
            at("host"),
            at("client.pub")
        );
        std::fs::write(at("sshd_config"), text).ok()?;
        let child = Command::new(program)
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut sshd = Sshd { child, port, user, dir };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = !matches!(sshd.child.try_wait(), Ok(None));
            if ended || started.elapsed() > Duration::from_secs(20) {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(sshd)
    }

    fn key(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn config(&self, repository: &Path, key: &str, host_key: &str) -> SourceConfig {
        let url = format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port, repository.display());
        let mut config = config(&url);
        let known_hosts = format!("[127.0.0.1]:{} {}", self.port, self.key(host_key));
        let identity = SshIdentity::Text(Secret::new(self.key(key)));
        config.auth = Auth::Ssh(SshAuth { identity, known_hosts });
        config
    }
}

#[tokio::test]
async fn a_repository_over_ssh() {
    let sshd = Sshd::start().expect(
        "no ssh server can be started here: `cargo verify --install` installs one (Debian: openssh-server) and makes /run/sshd",
    );
    let origin = Origin::new();
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(dir.path(), sshd.config(&origin.bare(), "client", "host.pub"));
    let first = fetch(&mirror).await.unwrap();
    assert_eq!(first.revision.commit, origin.head());
    assert!(first.bytes > 0);
    assert!(!fetch(&mirror).await.unwrap().changed);
    origin.commit(&[("a", "1")]);
    assert!(fetch(&mirror).await.unwrap().changed);
    assert!(!dir.path().join("keys").exists(), "the key goes with the fetch");

    let mut by_file = sshd.config(&origin.bare(), "client", "host.pub");
    if let Auth::Ssh(auth) = &mut by_file.auth {
        auth.identity = SshIdentity::File(sshd.dir.path().join("client"));
    }
    let other = tempfile::tempdir().unwrap();
    assert!(fetch(&open(other.path(), by_file)).await.is_ok());

    for (config, code) in [
        (sshd.config(&origin.bare(), "other", "host.pub"), "AuthRefused"),
        (sshd.config(&origin.bare(), "client", "other.pub"), "HostKeyUntrusted"),
        (sshd.config(Path::new("/no/such/repo.git"), "client", "host.pub"), "RepositoryNotFound"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = fails(&open(dir.path(), config), code).await;
        assert!(!error.to_string().contains("PRIVATE KEY") && !error.to_string().contains("127.0.0.1:22"), "{error}");
    }
    let mut limited = sshd.config(&origin.bare(), "client", "host.pub");
    limited.limits.pack_bytes = 100;
    let dir = tempfile::tempdir().unwrap();
    fails(&open(dir.path(), limited), "PackTooLarge").await;

    let mut gone = sshd.config(&origin.bare(), "client", "host.pub");
    gone.ssh_program = "/no/such/ssh".into();
    let dir = tempfile::tempdir().unwrap();
    fails(&open(dir.path(), gone), "SshUnavailable").await;

    drop(sshd);
    fails(&mirror, "HostUnreachable").await;
}

/// A program that says nothing for ever: the timeout must end it.
#[tokio::test]
async fn a_silent_ssh_is_ended() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("ssh");
    std::fs::write(&program, format!("#!/bin/sh\necho $$ > {}/pid\nexec sleep 600\n", dir.path().display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = config("ssh://git@example.org/a");
    config.auth = Auth::Ssh(SshAuth {
        identity: SshIdentity::Text(Secret::new("key")),
        known_hosts: "example.org ssh-ed25519 AAAA".into(),
    });
    config.ssh_program = program;
    (config.timeout, config.clone_timeout) = (Duration::from_secs(2), Duration::ZERO);
    let mirror = open(&dir.path().join("mirror"), config);
    fails(&mirror, "Timeout").await;
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    let process = PathBuf::from(format!("/proc/{}", pid.trim()));
    let started = Instant::now();
    while process.exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "ssh still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

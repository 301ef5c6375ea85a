//! People with keys: real `gpg`, `ssh-keygen` and a Git that signs. Where one of these programs is missing tests fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use driftless_source::{SourceConfig, SourceError, TrustedKeys, Verification, VerifyMode};

use super::{Origin, config};

/// A folder with keys of several people.
pub struct Keys {
    pub home: tempfile::TempDir,
}

pub fn run(program: &str, home: &Path, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("GNUPGHOME", home.join("gnupg"))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program} cannot be run ({e}); install gnupg and openssh-client"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Keys {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("k").tempdir_in("/tmp").unwrap(); // a long path is too long for gpg's socket
        std::fs::create_dir(home.path().join("gnupg")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(home.path().join("gnupg"), mode).unwrap();
        Keys { home }
    }

    pub fn gpg(&self, args: &[&str]) -> String {
        let mut all = vec!["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""];
        all.extend_from_slice(args);
        run("gpg", self.home.path(), &all)
    }

    /// gpg with answers to what it asks.
    pub fn gpg_told(&self, args: &[&str], answers: &str) {
        let mut child = Command::new("gpg")
            .args(["--no-greeting", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GNUPGHOME", self.home.path().join("gnupg"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), answers.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "gpg {args:?}");
    }

    /// Makes a key and gives its fingerprint.
    pub fn pgp(&self, mail: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        self.gpg(&["--quick-generate-key", mail, algorithm, usage, expires]);
        let listed = self.gpg(&["--with-colons", "--list-keys", mail]);
        let line = listed.lines().find(|l| l.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// The public key of a fingerprint, armoured.
    pub fn pgp_public(&self, key: &str) -> String {
        self.gpg(&["--armor", "--export", key])
    }

    pub fn ssh(&self, name: &str, args: &[&str]) -> PathBuf {
        let path = self.home.path().join(name);
        let mut all = vec!["-q", "-N", "", "-C", "somebody", "-f", path.to_str().unwrap()];
        all.extend_from_slice(args);
        run("ssh-keygen", self.home.path(), &all);
        path
    }

    pub fn ssh_public(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(format!("{name}.pub"))).unwrap()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The agent of this folder only; it ends by itself a little later too, when the folder is gone.
        let mut stop = Command::new("gpgconf");
        stop.args(["--kill", "gpg-agent"]).env("GNUPGHOME", self.home.path().join("gnupg"));
        drop(stop.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// Git that signs with a key.
pub struct Signer<'a> {
    pub origin: &'a Origin,
    pub keys: &'a Keys,
}

impl Signer<'_> {
    pub fn git(&self, key: &str, args: &[&str]) -> String {
        let format = if key.starts_with('/') { "gpg.format=ssh" } else { "gpg.format=openpgp" };
        let signing = format!("user.signingkey={key}");
        let mut all = vec!["-C", self.origin.dir.path().to_str().unwrap()];
        let work = self.origin.dir.path().join("work");
        all[1] = work.to_str().unwrap();
        all.extend(["-c", format, "-c", &signing, "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]);
        all.extend_from_slice(args);
        run("git", self.keys.home.path(), &all)
    }

    /// A signed commit on main; gives its id.
    pub fn commit(&self, key: &str) -> String {
        self.git(key, &["commit", "-q", "--allow-empty", "-S", "-m", &format!("signed with {key}")]);
        self.push();
        self.origin.head()
    }

    pub fn push(&self) {
        self.origin.git(&["push", "-q", "--force", "origin", "HEAD:main"]);
    }

    pub fn tag(&self, key: &str, name: &str) {
        self.git(key, &["tag", "-s", "-f", "-m", "a release", name]);
        self.origin.git(&["push", "-q", "--force", "origin", &format!("refs/tags/{name}")]);
    }
}

pub fn trust(entries: &[(&str, &str)]) -> TrustedKeys {
    TrustedKeys::read(&entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>())
}

pub fn signed(url: &str, mode: VerifyMode, keys: TrustedKeys) -> SourceConfig {
    let mut config = config(url);
    config.verification = Some(Verification { mode, keys, place: "Secret flux-system/keys".into() });
    config
}

pub fn says(error: &SourceError, words: &[&str]) {
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
}

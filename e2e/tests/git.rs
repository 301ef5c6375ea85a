//! The Git server that sources are tested on, through the git program itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use driftless_e2e::git::{Credentials, GitServer, Mode, Options, git};
use http::StatusCode;
use tempfile::TempDir;

/// `http://host/...` with a user and a password in it.
fn with_credentials(url: &str, user: &str, password: &str) -> String {
    url.replacen("://", &format!("://{user}:{password}@"), 1)
}

/// A client's folder; `trust` is the authority it believes in.
fn client(trust: Option<&str>) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    if let Some(pem) = trust {
        std::fs::write(folder.path().join("ca.pem"), pem)?;
    }
    Ok(folder)
}

async fn remote_branches(folder: &Path, url: &str) -> Result<String> {
    git(folder, &["ls-remote", "--heads", url]).await
}

#[tokio::test]
async fn clone_commit_push() -> Result<()> {
    let server = GitServer::start(Options::default()).await?;
    let mut repo = server.create_repo("fleet").await?;
    let first = repo.commit("first", &[("apps/a.yaml", Some("a: 1\n")), ("b.yaml", Some("b: 1\n"))]).await?;
    let mut twin = server.create_repo("twin").await?;
    let same = twin.commit("first", &[("apps/a.yaml", Some("a: 1\n")), ("b.yaml", Some("b: 1\n"))]).await?;
    assert_eq!(first, same, "identity and times are fixed, so equal commits have equal hashes");

    let folder = client(None)?;
    let url = server.repo_url("fleet");
    git(folder.path(), &["clone", "--quiet", &url, "copy"]).await?;
    let copy = folder.path().join("copy");
    assert_eq!(std::fs::read_to_string(copy.join("apps/a.yaml"))?, "a: 1\n");

    std::fs::write(copy.join("c.yaml"), "c: 1\n")?;
    git(&copy, &["add", "--all"]).await?;
    git(&copy, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "mine"]).await?;
    git(&copy, &["push", "--quiet", "origin", "HEAD"]).await?;
    let pushed = git(&copy, &["rev-parse", "HEAD"]).await?;
    assert_eq!(git(repo.bare(), &["rev-parse", "main"]).await?, pushed);

    let back = repo.force_push(&first).await?;
    assert_eq!(git(repo.bare(), &["rev-parse", "main"]).await?, back);
    assert_eq!(back, first);

    repo.branch("staging").await?;
    repo.commit("on staging", &[("b.yaml", None)]).await?;
    ensure!(remote_branches(folder.path(), &url).await?.contains("refs/heads/staging"));
    repo.delete_branch("staging").await?;
    ensure!(!remote_branches(folder.path(), &url).await?.contains("staging"));
    ensure!(server.requests().iter().any(|request| request.starts_with("POST /fleet.git/git-receive-pack")));
    Ok(())
}

#[tokio::test]
async fn a_push_of_many_megabytes_arrives() -> Result<()> {
    let server = GitServer::start(Options::default()).await?;
    let repo = server.create_repo("large").await?;
    let folder = client(None)?;
    git(folder.path(), &["clone", "--quiet", &server.repo_url("large"), "copy"]).await?;
    let copy = folder.path().join("copy");
    // Bytes that do not compress: git then sends the pack in chunks, without a length.
    let noise: Vec<u8> = (0..200_000_u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
    std::fs::write(copy.join("noise"), &noise)?;
    git(&copy, &["add", "--all"]).await?;
    git(&copy, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "noise"]).await?;
    git(&copy, &["push", "--quiet", "origin", "HEAD:main"]).await?;
    assert_eq!(git(repo.bare(), &["cat-file", "-s", "main:noise"]).await?, noise.len().to_string());
    git(folder.path(), &["clone", "--quiet", &server.repo_url("large"), "again"]).await?;
    assert_eq!(std::fs::read(folder.path().join("again/noise"))?, noise);
    Ok(())
}

#[tokio::test]
async fn a_folder_is_committed_as_it_is() -> Result<()> {
    let server = GitServer::start(Options::default()).await?;
    let mut repo = server.create_repo("folder").await?;
    repo.commit("before", &[("old.yaml", Some("old\n"))]).await?;
    let folder = client(None)?;
    let from = folder.path();
    std::fs::create_dir_all(from.join("apps/.git"))?;
    std::fs::write(from.join("apps/.git/config"), "not ours")?;
    std::fs::write(from.join("apps/.gitignore"), "*.env\n")?;
    std::fs::write(from.join("apps/a.env"), "A=1\n")?;
    std::os::unix::fs::symlink("apps/a.env", from.join("link"))?;
    repo.commit_folder("folder", from).await?;
    let files = git(repo.bare(), &["ls-tree", "-r", "main", "--format=%(objectmode) %(path)"]).await?;
    assert_eq!(files, "100644 apps/.gitignore\n100644 apps/a.env\n120000 link");
    Ok(())
}

#[tokio::test]
async fn passwords_are_asked_for() -> Result<()> {
    let credentials = Some(Credentials::new("reader", "open-sesame"));
    let server = GitServer::start(Options { credentials, ..Options::default() }).await?;
    let mut repo = server.create_repo("private").await?;
    repo.commit("first", &[("a.yaml", Some("a: 1\n"))]).await?;
    let folder = client(None)?;
    let url = server.repo_url("private");
    for (url, accepted) in [
        (url.clone(), false),
        (with_credentials(&url, "reader", "wrong"), false),
        (with_credentials(&url, "other", "open-sesame"), false),
        (with_credentials(&url, "reader", "open-sesame"), true),
    ] {
        assert_eq!(remote_branches(folder.path(), &url).await.is_ok(), accepted, "{url}");
    }
    server.set_credentials(Some(Credentials::new("reader", "rotated")));
    ensure!(remote_branches(folder.path(), &with_credentials(&url, "reader", "open-sesame")).await.is_err());
    ensure!(remote_branches(folder.path(), &with_credentials(&url, "reader", "rotated")).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn tls_is_trusted_by_its_authority_only() -> Result<()> {
    let server = GitServer::start(Options { tls: true, ..Options::default() }).await?;
    let mut repo = server.create_repo("tls").await?;
    repo.commit("first", &[("a.yaml", Some("a: 1\n"))]).await?;
    let folder = client(server.authority())?;
    let url = server.repo_url("tls");
    ensure!(url.starts_with("https://"));
    let error = remote_branches(folder.path(), &url).await.unwrap_err();
    ensure!(format!("{error:#}").contains("certificate"), "{error:#}");
    let branches = git(folder.path(), &["-c", "http.sslCAInfo=ca.pem", "ls-remote", "--heads", &url]).await?;
    ensure!(branches.contains("refs/heads/main"), "{branches}");
    Ok(())
}

#[tokio::test]
async fn it_misbehaves_on_demand() -> Result<()> {
    let mut server = GitServer::start(Options::default()).await?;
    let mut repo = server.create_repo("moody").await?;
    repo.commit("first", &[("a.yaml", Some("a: 1\n"))]).await?;
    let folder = client(None)?;
    let url = server.repo_url("moody");

    server.set_mode(Mode::Fail(StatusCode::SERVICE_UNAVAILABLE));
    let error = remote_branches(folder.path(), &url).await.unwrap_err();
    ensure!(format!("{error:#}").contains("503"), "{error:#}");

    server.set_mode(Mode::Drop);
    ensure!(remote_branches(folder.path(), &url).await.is_err());

    // A hanging request is answered when the server comes to its senses.
    server.set_mode(Mode::Hang);
    let before = server.requests().len();
    let (answer, ()) = tokio::join!(remote_branches(folder.path(), &url), async {
        let seen = driftless_e2e::wait::until(Duration::from_secs(60), "the request", || {
            std::future::ready(server.requests().len() > before)
        });
        seen.await.unwrap();
        server.set_mode(Mode::Serve);
    });
    ensure!(answer?.contains("refs/heads/main"));

    server.stop().await;
    repo.commit("while it is down", &[("a.yaml", Some("a: 2\n"))]).await?;
    let error = remote_branches(folder.path(), &url).await.unwrap_err();
    ensure!(format!("{error:#}").to_lowercase().contains("connect"), "{error:#}");
    server.listen().await?;
    ensure!(remote_branches(folder.path(), &url).await?.contains(&repo.head().await?));
    Ok(())
}

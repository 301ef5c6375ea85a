//! Free loopback ports.
//!
//! A port from the range that the kernel gives to outgoing connections is a bad choice for a server that is stopped
//! and started again: while it is down, a client that keeps dialling can be given that very port as its own end and
//! connect to itself, and then the server finds its port taken. So ports are taken from below that range, tried by
//! binding, and fall back to the kernel's choice (port 0). Between the trial and the server's own bind another
//! process can be quicker, and a program that this process starts at that moment holds a copy of the tried socket until
//! its `exec`: a server of this process takes the listening socket itself ([`listen`]), and one that listens on its old
//! port again does so patiently ([`listen_again`]). Callers that start a program with a port retry.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::time::Duration;

/// Below this live the well-known services of a developer's machine.
const LOWEST: u16 = 10_000;
/// Where Linux starts the outgoing range unless told otherwise.
const USUAL_OUTGOING_START: u16 = 32_768;
/// Trials before the kernel is asked to choose.
const TRIALS: u32 = 64;
/// How long a port of before is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two such questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Ports handed out by this process, so that two servers that start together never get the same.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `N` different TCP ports of 127.0.0.1 that nobody listened on a moment ago.
///
/// # Errors
/// The machine has no free port at all.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = one()?.local_addr()?.port();
    }
    Ok(ports)
}

/// A socket that listens on a port of 127.0.0.1. Needs a tokio runtime.
///
/// # Errors
/// The machine has no free port at all.
pub fn listen() -> io::Result<tokio::net::TcpListener> {
    let listener = one()?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Listens on the port that a server had before.
///
/// # Errors
/// It is still taken after ten seconds.
pub async fn listen_again(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let since = tokio::time::Instant::now();
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && since.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            bound => return bound,
        }
    }
}

fn one() -> io::Result<TcpListener> {
    let top = outgoing_start().unwrap_or(USUAL_OUTGOING_START);
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if top > LOWEST + 1_000 {
        for trial in 0..TRIALS {
            // The seed of a hasher is the randomness the standard library has; parallel test processes must differ.
            let spread = RandomState::new().hash_one(trial) % u64::from(top - LOWEST);
            let Ok(offset) = u16::try_from(spread) else { continue };
            let port = LOWEST + offset;
            if given.contains(&port) {
                continue;
            }
            if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                given.insert(port);
                return Ok(listener);
            }
        }
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    given.insert(listener.local_addr()?.port());
    Ok(listener)
}

fn outgoing_start() -> Option<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        // Others on this machine take ports too, now and then one of these: then all of them are asked for anew.
        let all_bound = (0..5).any(|_| {
            let ports: [u16; 20] = free().unwrap();
            assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
            ports.iter().all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        });
        assert!(all_bound, "of twenty ports one could not be bound, five times");
    }

    #[tokio::test]
    async fn a_port_that_is_let_go_of_late_is_listened_on_again() {
        let held = listen().unwrap();
        let address = held.local_addr().unwrap();
        let holder = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(held);
        });
        let again = listen_again(address).await.unwrap();
        assert_eq!(again.local_addr().unwrap(), address);
        holder.await.unwrap();
    }
}

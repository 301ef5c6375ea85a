//! Free loopback ports.
//!
//! A port from the range that the kernel gives to outgoing connections is a bad choice for a server that is stopped
//! and started again: while it is down, a client that keeps dialling can be given that very port as its own end and
//! connect to itself, and then the server finds its port taken. So ports are taken from below that range, tried by
//! binding, and fall back to the kernel's choice (port 0). Between the trial and the server's own bind another
//! process can be quicker: callers retry.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// Below this live the well-known services of a developer's machine.
const LOWEST: u16 = 10_000;
/// Where Linux starts the outgoing range unless told otherwise.
const USUAL_OUTGOING_START: u16 = 32_768;
/// Trials before the kernel is asked to choose.
const TRIALS: u32 = 64;

/// Ports handed out by this process, so that two servers that start together never get the same.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `N` different TCP ports of 127.0.0.1 that nobody listened on a moment ago.
///
/// # Errors
/// The machine has no free port at all.
pub fn free<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = one()?;
    }
    Ok(ports)
}

fn one() -> io::Result<u16> {
    let top = outgoing_start().unwrap_or(USUAL_OUTGOING_START);
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if top > LOWEST + 1_000 {
        for trial in 0..TRIALS {
            // The seed of a hasher is the randomness the standard library has; parallel test processes must differ.
            let spread = RandomState::new().hash_one(trial) % u64::from(top - LOWEST);
            let Ok(offset) = u16::try_from(spread) else { continue };
            let port = LOWEST + offset;
            if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                given.insert(port);
                return Ok(port);
            }
        }
    }
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    given.insert(port);
    Ok(port)
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
}

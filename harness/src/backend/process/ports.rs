//! Ports for nodes, kept from everybody else.
//!
//! A port is taken by a socket that is bound and never listens. It is bound strictly, so that two runs never get the
//! same port, and then made shareable, so that the node itself, which like every server asks for a reusable address,
//! can bind and listen beside it. While a node is down nobody answers, and a connection is refused as it should be.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use socket2::{Domain, Socket, Type};

use crate::backend::BackendError;
use crate::backend::procfs;

/// Ports below this are left to well-known services.
const FIRST: u16 = 10_000;
/// The most ports of one backend.
const PORTS_MAX: usize = 1024;

/// The ports of one backend.
#[derive(Debug, Default)]
pub(super) struct Ports {
    held: Vec<Socket>,
}

impl Ports {
    /// Takes `count` ports more.
    ///
    /// # Errors
    /// When there are not that many; then none is taken.
    pub(super) fn reserve(&mut self, count: usize) -> Result<Vec<u16>, BackendError> {
        let range = range();
        if self.held.len() + count > PORTS_MAX {
            return Err(BackendError::Limit(format!(
                "{count} ports more than the {} taken are more than the {PORTS_MAX} of one system",
                self.held.len()
            )));
        }
        let (first, size) = (u32::from(*range.start()), u32::from(range.end() - range.start()) + 1);
        // Runs begin to look at different places, so that they seldom meet.
        let offset = std::process::id().wrapping_mul(97) % size;
        let mut taken = Vec::with_capacity(count);
        let mut ports = Vec::with_capacity(count);
        for step in 0..size {
            if ports.len() == count {
                break;
            }
            let Ok(port) = u16::try_from(first + (offset + step) % size) else {
                continue;
            };
            if let Ok(socket) = take(port) {
                taken.push(socket);
                ports.push(port);
            }
        }
        if ports.len() < count {
            return Err(BackendError::Limit(format!(
                "of {count} ports only {} are free from {} to {}",
                ports.len(),
                range.start(),
                range.end()
            )));
        }
        self.held.append(&mut taken);
        Ok(ports)
    }

    /// Gives all of them back.
    pub(super) fn release(&mut self) {
        self.held.clear();
    }
}

/// Above well-known services and below what outgoing connections draw from.
fn range() -> RangeInclusive<u16> {
    let end = procfs::ephemeral_ports_begin().saturating_sub(1);
    if end > FIRST { FIRST..=end } else { 1024..=FIRST }
}

fn take(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn ports_are_distinct_kept_and_usable_again_and_again() {
        let (mut one, mut two) = (Ports::default(), Ports::default());
        let mut all = one.reserve(20).unwrap();
        all.extend(two.reserve(20).unwrap());
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 40);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, all[0]));
        for _ in 0..2 {
            assert!(TcpStream::connect(address).is_err(), "nobody listens: refused");
            // The standard library asks for a reusable address, as servers do.
            let node = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(address).unwrap();
            drop((node, client));
        }
        assert!(all.iter().all(|port| *port < procfs::ephemeral_ports_begin()));
        one.release();
        let again = TcpListener::bind(address);
        assert!(again.is_ok());
    }

    #[test]
    fn too_many_are_refused_and_none_is_taken() {
        let mut ports = Ports::default();
        let error = ports.reserve(PORTS_MAX + 1).unwrap_err();
        assert!(error.to_string().contains("1024"), "{error}");
        assert!(ports.held.is_empty());
    }
}

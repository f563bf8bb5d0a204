//! Which process holds the far end of a connection on this machine. Linux only.
//!
//! The kernel names the inode of a socket by its two addresses, when asked for that one (sock_diag(7)), or in the list of
//! all (/proc/net/tcp), which takes it milliseconds; /proc/PID/fd names the inodes that a process holds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::backend::procfs;

/// The node among `nodes` (process numbers by name) that holds the socket from `client` to `server`: its process, or
/// one of the group that it leads, for a program that was started by a wrapper.
#[must_use]
pub(super) fn who_dials(nodes: &BTreeMap<String, u32>, client: SocketAddr, server: SocketAddr) -> Option<String> {
    let inode = inode_of(client, server)?;
    let itself = nodes.iter().find(|(_, pid)| holds(**pid, inode));
    if let Some((name, _)) = itself {
        return Some(name.clone());
    }
    let by_group: BTreeMap<u32, &String> = nodes.iter().map(|(name, pid)| (*pid, name)).collect();
    procfs::all().into_iter().find_map(|pid| {
        let name = by_group.get(&procfs::group_of(pid)?)?;
        holds(pid, inode).then(|| (*name).clone())
    })
}

/// The inode of the socket that was bound to `local` and dialled `remote`.
fn inode_of(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    match ask_kernel(local, remote) {
        Ok(inode) => inode,
        // A kernel without the module, or a sandbox that forbids it.
        Err(_) => look_up(local, remote),
    }
}

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h.
const AF_NETLINK: i32 = 16;
const SOCK_RAW: i32 = 3;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;
const HEADER: usize = 16;
/// Where the inode stands in an answer: behind the header, the four bytes of state, the addresses and four counts.
const INODE_AT: usize = HEADER + 4 + 48 + 16;
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Asks for one socket by its addresses. A program may dial IPv4 through a socket for both families: it is found as well.
fn ask_kernel(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u64>> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (local.ip().to_canonical(), remote.ip().to_canonical()) else {
        // Links listen on IPv4 alone.
        return Ok(None);
    };
    let mut request = Vec::with_capacity(72);
    request.extend(72_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]);
    // In any state; no extensions.
    request.extend([AF_INET, IPPROTO_TCP, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    for address in [from, to] {
        request.extend(address.octets());
        request.extend([0; 12]);
    }
    // Any interface, and no cookie.
    request.extend([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);

    let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
    let socket = Socket::new(Domain::from(AF_NETLINK), Type::from(SOCK_RAW), protocol)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send(&request)?;
    let mut answer = [0; 512];
    let count = (&socket).read(&mut answer)?;
    parse_answer(&answer[..count]).ok_or_else(|| io::Error::other("not found, or not to be asked for"))
}

/// None when it says that there is no such socket, or can't be read.
fn parse_answer(answer: &[u8]) -> Option<Option<u64>> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let inode = u32::from_ne_bytes(answer.get(INODE_AT..INODE_AT + 4)?.try_into().ok()?);
    // 0 when nobody holds the socket any more.
    (kind == SOCK_DIAG_BY_FAMILY).then_some((inode != 0).then_some(u64::from(inode)))
}

/// Looks the socket up in the list of all.
fn look_up(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    // A program may dial IPv4 through a socket for both families.
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        find_inode(&text, local, remote)
    })
}

fn find_inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (in_table(local)?, in_table(remote)?);
    // Looked for as text: there may be thousands of lines, and nodes that have lost a peer dial often. An IPv4 address
    // stands alone, or at the end of an IPv6 address that maps it.
    ["", MAPPED].iter().find_map(|before| {
        let pair = format!(" {before}{local} {before}{remote} ");
        let (_, rest) = table.split_once(&pair)?;
        // The inode stands seven fields behind the addresses; it is 0 when nobody holds the socket any more.
        let inode = rest.lines().next()?.split_whitespace().nth(6)?.parse().ok()?;
        (inode != 0).then_some(inode)
    })
}

/// What an IPv6 address begins with that stands for an IPv4 address.
const MAPPED: &str = "0000000000000000FFFF0000";

/// `address` as the table has it: the bytes as one number of this machine, in hexadecimal.
fn in_table(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip().to_canonical() else {
        // Links listen on IPv4 alone.
        return None;
    };
    Some(format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(ip.octets()),
        address.port()
    ))
}

fn holds(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_connection_is_traced_to_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, near) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let own = std::process::id();
        let nodes = BTreeMap::from([("init".to_owned(), 1), ("self".to_owned(), own)]);
        assert_eq!(who_dials(&nodes, far, near), Some("self".to_owned()));
        let others = BTreeMap::from([("init".to_owned(), 1)]);
        assert_ne!(who_dials(&others, far, near), Some("self".to_owned()));
        let by_list = look_up(far, near);
        assert!(by_list.is_some(), "it is in the list of all");
        if let Ok(by_kernel) = ask_kernel(far, near) {
            assert_eq!(by_kernel, by_list, "both ways find the same");
        }
        drop(client);
        assert_eq!(who_dials(&nodes, far, near), None, "nobody holds it any more");
    }

    #[test]
    fn a_process_of_the_same_group_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let leader = procfs::group_of(std::process::id()).unwrap();
        let nodes = BTreeMap::from([("wrapped".to_owned(), leader)]);
        let found = who_dials(&nodes, client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(found, Some("wrapped".to_owned()));
    }

    #[test]
    fn a_mapped_address_is_the_same_address() {
        let table = "  sl  local_address remote_address st\n   \
            0: 0000000000000000FFFF00000100007F:A1B2 0000000000000000FFFF00000100007F:1F90 01 0:0 00:0 0 0 0 4711 1 x\n";
        let (local, remote) = ("127.0.0.1:41394".parse().unwrap(), "127.0.0.1:8080".parse().unwrap());
        let expected = cfg!(target_endian = "little").then_some(4711);
        assert_eq!(find_inode(table, local, remote), expected);
        assert_eq!(
            find_inode(table, remote, local),
            None,
            "the other end is another socket"
        );
    }

    proptest! {
        #[test]
        fn any_table_is_read_or_passed_over(table in "(.{0,80}\n){0,5}") {
            let address = "127.0.0.1:1".parse().unwrap();
            let _ = find_inode(&table, address, address);
            let _ = parse_answer(table.as_bytes());
        }
    }
}

//! STUN (RFC 8489): a server is asked where our question came from. The codec of the one request and its answer, and the
//! driver that asks.
//!
//! Like go-ethereum's, the question leaves from a socket of its own, so the answer gives our address but not the discovery
//! socket's port. Nothing is authenticated: whoever sits between us and the server can lie, which is why an answer must name
//! our random transaction and why only an operator who says `stun` believes it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use kadwire_discovery::is_public;
use kadwire_wire::Host;
use rand::Rng;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use super::{method::StunServer, trouble::Trouble};

/// The fixed second word of every message (RFC 8489 §5).
const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Bytes of the header: type, length, cookie, transaction (RFC 8489 §5).
const HEADER: usize = 20;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// The address as servers of RFC 3489 write it.
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const ERROR_CODE: u16 = 0x0009;

/// How long each repetition of the question is waited for: RFC 8489 §6.2.1 (500 ms, doubling), cut short after 3.5 s.
const WAITS: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(2000)];

/// Addresses of one server's name that are tried.
const MAX_ADDRESSES: usize = 2;

/// Longest answer looked at: what does not fit is cut off by the system. Answers to a bare request have about 100 bytes.
const MAX_ANSWER: usize = 1500;

/// Names one question.
type Transaction = [u8; 12];

/// Why a datagram is not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum StunError {
    #[error("not an answer to our question")]
    NotOurs,
    #[error("malformed answer")]
    Malformed,
    #[error("the server refuses with code {0}")]
    Refused(u16),
    #[error("the answer gives no address")]
    NoAddress,
}

fn request(transaction: &Transaction) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..2].copy_from_slice(&BINDING_REQUEST.to_be_bytes());
    bytes[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    bytes[8..].copy_from_slice(transaction);
    bytes
}

/// The address in the answer to `transaction`.
fn answer(datagram: &[u8], transaction: &Transaction) -> Result<SocketAddr, StunError> {
    let (header, body) = datagram.split_first_chunk::<HEADER>().ok_or(StunError::NotOurs)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (kind, length) = (word(0), usize::from(word(2)));
    if header[4..8] != MAGIC_COOKIE.to_be_bytes() || header[8..] != transaction[..] {
        return Err(StunError::NotOurs);
    }
    let mut attributes = body.get(..length).ok_or(StunError::Malformed)?;
    let (mut mapped, mut code) = (None, None);
    while let Some((head, rest)) = attributes.split_first_chunk::<4>() {
        let [t0, t1, l0, l1] = *head;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = rest.get(..length).ok_or(StunError::Malformed)?;
        match u16::from_be_bytes([t0, t1]) {
            XOR_MAPPED_ADDRESS => mapped = Some(address(value)?).map(|address| unmask(address, transaction)),
            MAPPED_ADDRESS => mapped = Some(mapped.unwrap_or(address(value)?)),
            ERROR_CODE => code = value.get(2..4).map(|code| u16::from(code[0] & 7) * 100 + u16::from(code[1])),
            _ => {}
        }
        // Values are padded to whole words.
        attributes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    match kind {
        BINDING_SUCCESS => mapped.ok_or(StunError::NoAddress),
        BINDING_ERROR => Err(StunError::Refused(code.unwrap_or(0))),
        _ => Err(StunError::NotOurs),
    }
}

/// Zero, family, port, address (RFC 8489 §14.1).
fn address(value: &[u8]) -> Result<SocketAddr, StunError> {
    let ([_, family, p0, p1], ip) = value.split_first_chunk::<4>().ok_or(StunError::Malformed)?;
    let ip = match (*family, <[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
        (1, Ok(v4), _) => IpAddr::from(v4),
        (2, _, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(StunError::Malformed),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes([*p0, *p1])))
}

/// Undoes the mask that keeps gateways from rewriting addresses (RFC 8489 §14.2).
fn unmask(masked: SocketAddr, transaction: &Transaction) -> SocketAddr {
    let port = masked.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match masked.ip() {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) ^ MAGIC_COOKIE).into(),
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(transaction);
            IpAddr::from(Ipv6Addr::from(u128::from(ip) ^ u128::from_be_bytes(mask)))
        }
    };
    SocketAddr::new(ip, port)
}

/// Asks one server after the other until one answers. A server with a name is asked over IPv4.
pub(super) async fn external_ip(servers: &[StunServer]) -> Result<IpAddr, Trouble> {
    let mut problems = Vec::new();
    for server in servers {
        match ask(server).await {
            Ok(ip) if is_public(ip) => return Ok(ip),
            Ok(ip) => return Err(Trouble::NotPublic(ip)),
            Err(error) => problems.push(format!("{server}: {error}")),
        }
    }
    Err(Trouble::NoStun(problems.join("; ")))
}

async fn ask(server: &StunServer) -> io::Result<IpAddr> {
    let addresses: Vec<SocketAddr> = match &server.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, server.port)],
        Host::Name(name) => {
            let found = lookup_host((name.as_str(), server.port)).await?;
            found.filter(SocketAddr::is_ipv4).take(MAX_ADDRESSES).collect()
        }
        Host::Memory => Vec::new(),
    };
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "its name has no IPv4 address"));
    for address in addresses {
        result = ask_at(address).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

async fn ask_at(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Others' datagrams do not get through.
    socket.connect(server).await?;
    let transaction = transaction();
    for wait in WAITS {
        socket.send(&request(&transaction)).await?;
        let waited = timeout(wait, receive(&socket, &transaction)).await;
        if let Ok(answered) = waited {
            return answered.map(|address| address.ip().to_canonical());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The answer; what is none is passed over.
async fn receive(socket: &UdpSocket, transaction: &Transaction) -> io::Result<SocketAddr> {
    let mut buffer = [0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match answer(&buffer[..length], transaction) {
            Err(StunError::NotOurs) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            Ok(address) => return Ok(address),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "driver: whoever cannot see the question must not guess its name")]
fn transaction() -> Transaction {
    let mut transaction = [0; 12];
    rand::rng().fill_bytes(&mut transaction);
    transaction
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER_PERMISSIVE;
    use proptest::prelude::*;

    /// RFC 5769, of all its vectors.
    const TRANSACTION: &str = "b7e7a701bc34d686fa87dfae";
    /// RFC 5769 §2.2.
    const IPV4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643\
                        000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
    /// RFC 5769 §2.3.
    const IPV6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa\
                        a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
    }

    fn transaction() -> Transaction {
        hex(TRANSACTION).try_into().unwrap()
    }

    /// An answer with these attributes.
    fn response(kind: u16, attributes: &str) -> Vec<u8> {
        let attributes = hex(attributes);
        let length = u16::try_from(attributes.len()).unwrap();
        let head = [kind.to_be_bytes(), length.to_be_bytes()].concat();
        [head, MAGIC_COOKIE.to_be_bytes().to_vec(), transaction().to_vec(), attributes].concat()
    }

    #[test]
    fn the_vectors_of_rfc_5769() {
        let read = |text: &str| answer(&hex(text), &transaction()).map(|address| address.to_string());
        assert_eq!(read(IPV4).as_deref(), Ok("192.0.2.1:32853"));
        assert_eq!(read(IPV6).as_deref(), Ok("[2001:db8:1234:5678:11:2233:4455:6677]:32853"));
    }

    #[test]
    fn the_request_is_a_bare_header() {
        assert_eq!(request(&transaction()).to_vec(), hex(&format!("000100002112a442{TRANSACTION}")));
    }

    #[test]
    fn old_servers_are_understood_and_the_masked_address_is_preferred() {
        let read = |attributes| {
            answer(&response(BINDING_SUCCESS, attributes), &transaction()).map(|address| address.to_string())
        };
        assert_eq!(read("000100080001123418000001").as_deref(), Ok("24.0.0.1:4660"));
        for both in
            ["000100080001123418000001002000080001a147e112a643", "002000080001a147e112a643000100080001123418000001"]
        {
            assert_eq!(read(both).as_deref(), Ok("192.0.2.1:32853"), "{both}");
        }
    }

    #[test]
    fn what_is_no_answer_is_told_from_a_bad_one() {
        let read = |datagram: &[u8]| answer(datagram, &transaction()).unwrap_err();
        let good = hex(IPV4);
        assert_eq!(read(&[]), StunError::NotOurs);
        assert_eq!(read(&good[..HEADER - 1]), StunError::NotOurs);
        for at in [4, 8, 19] {
            let mut other = good.clone();
            other[at] ^= 1;
            assert_eq!(read(&other), StunError::NotOurs, "cookie or transaction");
        }
        assert_eq!(read(&request(&transaction())), StunError::NotOurs, "our own question");
        assert_eq!(read(&good[..good.len() - 1]), StunError::Malformed, "cut");
        assert_eq!(read(&response(BINDING_SUCCESS, "")), StunError::NoAddress);
        assert_eq!(read(&response(BINDING_SUCCESS, "002000080003a147e112a643")), StunError::Malformed, "family 3");
        assert_eq!(
            read(&response(BINDING_SUCCESS, "002000080002a147e112a643")),
            StunError::Malformed,
            "4 bytes of IPv6"
        );
        assert_eq!(read(&response(BINDING_SUCCESS, "0020ffff0001")), StunError::Malformed);
        assert_eq!(read(&response(BINDING_ERROR, "00090004000004010000")), StunError::Refused(401));
        assert_eq!(read(&response(BINDING_ERROR, "")), StunError::Refused(0));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, attributes: Vec<u8>) {
            let _ = answer(&bytes, &transaction());
            let _ = answer(&response(BINDING_SUCCESS, &HEXLOWER_PERMISSIVE.encode(&attributes[..attributes.len().min(999)])), &transaction());
        }
    }

    /// A server at `address` that answers its second question with `answer`, after a datagram that is none.
    async fn server(address: &str, answer: Vec<u8>) -> SocketAddr {
        let socket = UdpSocket::bind((address, 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = [0; HEADER];
            for number in 0..2 {
                let (_, from) = socket.recv_from(&mut question).await.unwrap();
                if number == 1 {
                    let mut answer = answer.clone();
                    answer[8..HEADER].copy_from_slice(&question[8..]);
                    socket.send_to(b"noise", from).await.unwrap();
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        at
    }

    #[tokio::test]
    async fn a_server_is_asked_again_and_the_next_one_if_it_does_not_answer() {
        // 24.0.0.1 in the clear; the mask would need the transaction that is made later.
        let plain = response(BINDING_SUCCESS, "000100080001123418000001");
        let good = server("127.61.4.1", plain).await;
        let refusing = server("127.61.4.2", response(BINDING_ERROR, "00090004000005000000")).await;
        let servers: Vec<StunServer> = [refusing, good].iter().map(|at| at.to_string().parse().unwrap()).collect();
        assert_eq!(external_ip(&servers).await.unwrap(), IpAddr::from([24, 0, 0, 1]));
    }

    #[tokio::test]
    async fn a_private_address_is_not_believed_and_silence_is_named() {
        let inside = server("127.61.4.3", response(BINDING_SUCCESS, "00010008000112340a000001")).await;
        let trouble = external_ip(&[inside.to_string().parse().unwrap()]).await.unwrap_err();
        assert!(matches!(trouble, Trouble::NotPublic(_)), "{trouble}");
        let silent = UdpSocket::bind("127.61.4.4:0").await.unwrap();
        let at = silent.local_addr().unwrap().to_string();
        let trouble = external_ip(&[at.parse().unwrap()]).await.unwrap_err();
        assert!(trouble.to_string().contains(&at), "{trouble}");
    }
}

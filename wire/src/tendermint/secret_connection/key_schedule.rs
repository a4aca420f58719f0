//! From the ephemeral keys to frame keys and challenge: HKDF-SHA256 for the keys, a Merlin transcript for the challenge.

use hkdf::Hkdf;
use merlin::Transcript;
use sha2::Sha256;
use zeroize::Zeroizing;

const TRANSCRIPT: &[u8] = b"TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH";
const LOWER: &[u8] = b"EPHEMERAL_LOWER_PUBLIC_KEY";
const UPPER: &[u8] = b"EPHEMERAL_UPPER_PUBLIC_KEY";
const DH_SECRET: &[u8] = b"DH_SECRET";
const CHALLENGE: &[u8] = b"SECRET_CONNECTION_MAC";
const HKDF_INFO: &[u8] = b"TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN";

/// The keys of the two directions, as one side sees them.
pub(super) struct FrameKeys {
    pub(super) receive: Zeroizing<[u8; 32]>,
    pub(super) send: Zeroizing<[u8; 32]>,
}

/// Derives the frame keys; `least` says whether our ephemeral key is the lower one.
pub(super) fn frame_keys(dh: &[u8; 32], least: bool) -> FrameKeys {
    let [first, second, _] = expand(dh);
    if least { FrameKeys { receive: first, send: second } } else { FrameKeys { receive: second, send: first } }
}

/// The third part was once the challenge; today only the golden file looks at it.
fn expand(dh: &[u8; 32]) -> [Zeroizing<[u8; 32]>; 3] {
    let mut out = Zeroizing::new([0u8; 96]);
    // 96 bytes are far below HKDF's limit of 255 hashes, the only way this can fail.
    let expanded = Hkdf::<Sha256>::new(None, dh).expand(HKDF_INFO, out.as_mut_slice());
    debug_assert!(expanded.is_ok());
    let mut parts = [(); 3].map(|()| Zeroizing::new([0u8; 32]));
    for (part, bytes) in parts.iter_mut().zip(out.chunks_exact(32)) {
        part.copy_from_slice(bytes);
    }
    parts
}

/// What both sides sign. `lower` and `upper` are the ephemeral public keys in byte order.
pub(super) fn challenge(lower: &[u8; 32], upper: &[u8; 32], dh: &[u8; 32]) -> [u8; 32] {
    let mut transcript = Transcript::new(TRANSCRIPT);
    transcript.append_message(LOWER, lower);
    transcript.append_message(UPPER, upper);
    transcript.append_message(DH_SECRET, dh);
    let mut challenge = [0; 32];
    transcript.challenge_bytes(CHALLENGE, &mut challenge);
    challenge
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// CometBFT's golden file; see fixtures/README.md.
    const GOLDEN: &str = include_str!("../../../../fixtures/tendermint/secret_connection_golden.csv");

    #[test]
    fn keys_are_those_of_cometbfts_golden_file() {
        let mut lines = 0;
        for line in GOLDEN.lines() {
            let columns: Vec<_> = line.split(',').collect();
            let [dh, least, receive, send, third] = columns.as_slice() else { panic!("{line}") };
            let dh: [u8; 32] = HEXLOWER.decode(dh.as_bytes()).unwrap().try_into().unwrap();
            let keys = frame_keys(&dh, *least == "true");
            assert_eq!(HEXLOWER.encode(keys.receive.as_slice()), *receive);
            assert_eq!(HEXLOWER.encode(keys.send.as_slice()), *send);
            assert_eq!(HEXLOWER.encode(expand(&dh)[2].as_slice()), *third);
            lines += 1;
        }
        assert_eq!(lines, 32);
    }
}

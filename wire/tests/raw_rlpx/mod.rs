//! An Ethereum peer that does by hand what the TCP driver does, up to the stage where a test wants it to be evil.
#![allow(dead_code, reason = "each test file uses its own part")]

use kadwire_wire::rlpx::{
    FrameBuffer, FrameReader, FrameWriter, Handshake, PublicKey, SecretKey, Secured,
    disconnect::DisconnectReason,
    hello::Hello,
    message::{Codec, split},
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) struct RawPeer {
    pub(crate) stream: TcpStream,
    writer: FrameWriter,
    reader: FrameReader,
    input: FrameBuffer,
}

impl RawPeer {
    /// An honest handshake with whom was dialed.
    pub(crate) async fn secure(mut stream: TcpStream, key: &SecretKey, with: &PublicKey) -> Self {
        let mut handshake = Handshake::initiator(key, with, &mut StdRng::seed_from_u64(1));
        loop {
            if let Some(bytes) = handshake.poll_transmit() {
                stream.write_all(&bytes).await.unwrap();
            }
            if let Some(Secured { writer, reader, .. }) = handshake.poll_secured() {
                return RawPeer { stream, writer, reader, input: FrameBuffer::default() };
            }
            // Byte by byte, so that no frame of what follows is taken.
            let byte = stream.read_u8().await.unwrap();
            handshake.handle_bytes(&[byte]).unwrap();
        }
    }

    fn sealed(&mut self, data: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.writer.seal(data, &mut frame).unwrap();
        frame
    }

    /// One frame. Who was hung up on may fail to write.
    pub(crate) async fn write(&mut self, data: &[u8]) {
        let frame = self.sealed(data);
        let _ = self.stream.write_all(&frame).await;
    }

    /// The beginning of a frame, header included.
    pub(crate) async fn write_begin(&mut self, data: &[u8], len: usize) {
        let frame = self.sealed(data);
        self.stream.write_all(&frame[..len]).await.unwrap();
    }

    /// All of a frame but its last byte.
    pub(crate) async fn write_cut(&mut self, data: &[u8]) {
        let frame = self.sealed(data);
        self.stream.write_all(&frame[..frame.len() - 1]).await.unwrap();
    }

    /// A frame with one bit changed.
    pub(crate) async fn write_altered(&mut self, data: &[u8]) {
        let mut frame = self.sealed(data);
        frame[35] ^= 1;
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The data of the next frame; `None` at the end of the stream.
    pub(crate) async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(data) = self.reader.open(&mut self.input).unwrap() {
                return Some(data.to_vec());
            }
            if self.stream.read_buf(&mut self.input.spare(1024)).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn read_hello(&mut self) {
        Hello::from_frame(&self.read().await.unwrap()).unwrap();
    }

    /// The reason in the Disconnect that comes, compressed or not, after whatever else comes; then the end of the stream.
    pub(crate) async fn read_disconnect(&mut self) -> DisconnectReason {
        let data = loop {
            let data = self.read().await.expect("a Disconnect before the end");
            if data[0] == 0x01 {
                break data;
            }
        };
        assert_eq!(self.read().await, None);
        let plain = match Codec::for_version(5).decode(0, &data[1..], 2048) {
            Ok(message) => split(message).unwrap().1.to_vec(),
            Err(_) => data[1..].to_vec(),
        };
        DisconnectReason::decode(&plain)
    }
}

/// A payload as it goes into a frame.
pub(crate) fn snappy(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Codec::for_version(5).encode(0, payload, &mut out).unwrap();
    out[1..].to_vec()
}

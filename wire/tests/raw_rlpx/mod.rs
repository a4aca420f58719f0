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
    pub(crate) writer: FrameWriter,
    reader: FrameReader,
    input: FrameBuffer,
    /// What the node compresses from now on.
    pub(crate) codec: Codec,
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
                return RawPeer { stream, writer, reader, input: FrameBuffer::default(), codec: Codec::plain() };
            }
            // No more than belongs to it, so that no frame of what follows is taken.
            let mut bytes = vec![0; handshake.missing()];
            let len = stream.read(&mut bytes).await.unwrap();
            assert_ne!(len, 0, "the node hung up");
            handshake.handle_bytes(&bytes[..len]).unwrap();
        }
    }

    /// The data as a sealed frame.
    pub(crate) fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.writer.seal(data, &mut frame).unwrap();
        frame
    }

    /// One frame.
    pub(crate) async fn write(&mut self, data: &[u8]) {
        let frame = self.seal(data);
        self.write_raw(&frame).await;
    }

    /// Who was hung up on may fail to write.
    pub(crate) async fn write_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The beginning of a frame, header included.
    pub(crate) async fn write_begin(&mut self, data: &[u8], len: usize) {
        let frame = self.seal(data);
        self.write_raw(&frame[..len]).await;
    }

    /// The data of a frame with this message.
    pub(crate) fn message(&mut self, code: u64, payload: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        self.codec.encode(code, payload, &mut data).unwrap();
        data
    }

    /// The data of the next frame; `None` at the end of the stream.
    pub(crate) async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(data) = self.reader.open(&mut self.input).unwrap() {
                return Some(data.to_vec());
            }
            if self.stream.read_buf(self.input.spare(2000)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn read_hello(&mut self) -> Hello {
        Hello::from_frame(&self.read().await.unwrap()).unwrap()
    }

    /// Says Hello and hears the node's: from now on both compress.
    pub(crate) async fn greet(&mut self, hello: &[u8]) {
        self.write(hello).await;
        self.read_hello().await;
        self.codec = Codec::for_version(5);
    }

    /// What the node gives as the reason when it hangs up; all that came before, with how many pings and pongs.
    pub(crate) async fn end(&mut self) -> (Option<DisconnectReason>, [usize; 2]) {
        let (mut reason, mut base) = (None, [0; 2]);
        while let Some(data) = self.read().await {
            assert_eq!(reason, None, "nothing comes after Disconnect");
            match data.first() {
                Some(1) => {
                    let (_, payload) = split(self.codec.decode(1, &data[1..], 2048).unwrap()).unwrap();
                    reason = Some(DisconnectReason::decode(&payload));
                }
                Some(2) => base[0] += 1,
                Some(3) => base[1] += 1,
                _ => {}
            }
        }
        (reason, base)
    }
}

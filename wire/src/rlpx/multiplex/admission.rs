//! Which messages may be sent: asked where a user hands one over, so that it is he who hears why not, and again by the machine.

use bytes::Bytes;

use super::{
    super::{
        capability::SharedProtocol,
        message::{Codec, MAX_MESSAGE_SIZE, MessageError, read_code},
    },
    error::RefusedMessage,
    outbox::Waiting,
};

/// One shared protocol of a connection, as far as it says what may be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) shared: SharedProtocol,
    /// What the peer's Hello says.
    pub(crate) version: u64,
}

impl Admission {
    /// Compresses the message if only that tells, and throws the result away: the machine makes it again when it has room.
    pub(crate) fn check(&self, message: &[u8]) -> Result<(), RefusedMessage> {
        let (code, len) = code_on_the_wire(&self.shared, message)?;
        frame_if_large(&mut Codec::for_version(self.version), code, message.get(len..).unwrap_or_default())?;
        Ok(())
    }
}

/// A message in the form that waits to be sent.
pub(super) fn admit(shared: &SharedProtocol, codec: &mut Codec, mut message: Bytes) -> Result<Waiting, RefusedMessage> {
    let (code, len) = code_on_the_wire(shared, &message)?;
    let payload = message.split_off(len);
    Ok(frame_if_large(codec, code, &payload)?.map_or(Waiting::Message(code, payload), Waiting::Frame))
}

/// The code of a message as the peer sees it, and the length of the code in front of the message, in bytes.
fn code_on_the_wire(shared: &SharedProtocol, message: &[u8]) -> Result<(u64, usize), RefusedMessage> {
    let (own, len) = read_code(message).map_err(|_| RefusedMessage::NoCode)?;
    let length = shared.protocol.length;
    let code = shared.wire_code(own).ok_or(RefusedMessage::CodeOutOfRange { code: own, length })?;
    let (payload, max) = (message.len().saturating_sub(len), shared.protocol.max_message_size);
    if payload > max {
        return Err(RefusedMessage::TooLarge { len: payload, max });
    }
    Ok((code, len))
}

/// The data of the frame, if only making it tells whether it is one.
fn frame_if_large(codec: &mut Codec, code: u64, payload: &[u8]) -> Result<Option<Vec<u8>>, RefusedMessage> {
    if !codec.may_exceed(code, payload.len()) {
        return Ok(None);
    }
    let mut frame = Vec::new();
    codec.encode(code, payload, &mut frame).map_err(|error| match error {
        MessageError::TooLarge { len, max } => RefusedMessage::TooLarge { len, max },
        _ => RefusedMessage::TooLarge { len: payload.len(), max: MAX_MESSAGE_SIZE },
    })?;
    Ok(Some(frame))
}

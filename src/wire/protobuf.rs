//! The fields of a protobuf message in any legal form, one after the other, without building anything.
//!
//! Whoever decodes a message from the other side into a tree of its own makes 100 bytes of two: an empty record is `0a 00`
//! on the wire. Here a message costs nothing but the walk. What is legal is what prost takes for legal, down to the depth
//! of nested groups; tests compare the two.

/// Why bytes are not a protobuf message, or not the one expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// They end inside a field.
    #[error("it ends in the middle of a field")]
    Truncated,
    /// A number of more than ten bytes, or of more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    VarintTooLong,
    /// A key without a field number, or with one that is too large.
    #[error("{key} is not the key of a field")]
    BadKey {
        /// What stood in its place.
        key: u64,
    },
    /// A field of the message has a wire type that is not its own.
    #[error("field {number} has the wrong wire type")]
    WrongType {
        /// The field's number.
        number: u32,
    },
    /// Groups that do not end, or end without a beginning, or lie too deep.
    #[error("groups are not nested as they should be")]
    BadGroup,
    /// A string that is not text.
    #[error("field {number} is not UTF-8")]
    NotUtf8 {
        /// The field's number.
        number: u32,
    },
}

/// How deep groups may lie in the outermost message.
const MAX_DEPTH: u32 = 100;

/// The fields of a message, in the order in which they come. The first error is the last item.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    depth_left: u32,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    value: Value<'a>,
    depth_left: u32,
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed-width numbers and groups, which no message of ours has.
    Other,
}

impl<'a> Fields<'a> {
    /// The fields of the outermost message.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message, depth_left: MAX_DEPTH }
    }

    // In line, and so in registers: a field that goes through memory is read back before it is written, which takes longer
    // than the walk.
    #[inline(always)]
    fn take(&mut self) -> Result<Field<'a>, ProtobufError> {
        let (number, wire_type) = take_key(&mut self.rest)?;
        let value = match wire_type {
            WireType::Varint => Value::Varint(take_varint(&mut self.rest)?),
            WireType::Bytes => Value::Bytes(take_delimited(&mut self.rest)?),
            wire_type => {
                skip(&mut self.rest, number, wire_type, self.depth_left)?;
                Value::Other
            }
        };
        Ok(Field { number, value, depth_left: self.depth_left })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, ProtobufError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.take().inspect_err(|_| self.rest = &[]))
    }
}

impl<'a> Field<'a> {
    /// The number that it holds.
    pub(super) fn varint(self) -> Result<u64, ProtobufError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(ProtobufError::WrongType { number: self.number }),
        }
    }

    /// The bytes that it holds.
    pub(super) fn bytes(self) -> Result<&'a [u8], ProtobufError> {
        match self.value {
            Value::Bytes(value) => Ok(value),
            _ => Err(ProtobufError::WrongType { number: self.number }),
        }
    }

    /// The text that it holds.
    pub(super) fn text(self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::NotUtf8 { number: self.number })
    }

    /// The fields of the message that it holds.
    pub(super) fn message(self) -> Result<Fields<'a>, ProtobufError> {
        Ok(Fields { rest: self.bytes()?, depth_left: self.depth_left.saturating_sub(1) })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WireType {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

fn take_key(rest: &mut &[u8]) -> Result<(u32, WireType), ProtobufError> {
    let key = take_varint(rest)?;
    let bad_key = ProtobufError::BadKey { key };
    let wire_type = match key & 0x07 {
        0 => WireType::Varint,
        1 => WireType::Fixed64,
        2 => WireType::Bytes,
        3 => WireType::GroupStart,
        4 => WireType::GroupEnd,
        5 => WireType::Fixed32,
        _ => return Err(bad_key),
    };
    match u32::try_from(key).map(|key| key >> 3) {
        Ok(number @ 1..) => Ok((number, wire_type)),
        _ => Err(bad_key),
    }
}

/// Reads a varint, also one that is longer than need be.
fn take_varint(rest: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0u64;
    for i in 0..10 {
        let (&byte, behind) = rest.split_first().ok_or(ProtobufError::Truncated)?;
        *rest = behind;
        if i == 9 && byte > 1 {
            return Err(ProtobufError::VarintTooLong);
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ProtobufError::VarintTooLong)
}

fn take_delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], ProtobufError> {
    let len = usize::try_from(take_varint(rest)?).map_err(|_| ProtobufError::Truncated)?;
    rest.split_off(..len).ok_or(ProtobufError::Truncated)
}

/// Moves past the value of a field.
fn skip(rest: &mut &[u8], number: u32, wire_type: WireType, depth_left: u32) -> Result<(), ProtobufError> {
    if depth_left == 0 {
        return Err(ProtobufError::BadGroup);
    }
    match wire_type {
        WireType::Varint => take_varint(rest).map(drop),
        WireType::Bytes => take_delimited(rest).map(drop),
        WireType::Fixed32 => rest.split_off(..4).map(drop).ok_or(ProtobufError::Truncated),
        WireType::Fixed64 => rest.split_off(..8).map(drop).ok_or(ProtobufError::Truncated),
        WireType::GroupStart => skip_group(rest, number, depth_left),
        WireType::GroupEnd => Err(ProtobufError::BadGroup),
    }
}

fn skip_group(rest: &mut &[u8], number: u32, depth_left: u32) -> Result<(), ProtobufError> {
    loop {
        match take_key(rest)? {
            (end, WireType::GroupEnd) if end == number => return Ok(()),
            (_, WireType::GroupEnd) => return Err(ProtobufError::BadGroup),
            (inner, wire_type) => skip(rest, inner, wire_type, depth_left - 1)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_being_malformed_has_its_error() {
        let over_32_bits = 1 << 35 | 1 << 3;
        for (message, error) in [
            (&[0x08][..], ProtobufError::Truncated),
            (&[0x80], ProtobufError::Truncated),
            (&[0x0a, 0x02, 0x00], ProtobufError::Truncated),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], ProtobufError::Truncated),
            (&[0x0d, 0, 0, 0], ProtobufError::Truncated),
            (&[0x09, 0, 0, 0, 0, 0, 0, 0], ProtobufError::Truncated),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], ProtobufError::VarintTooLong),
            (&[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], ProtobufError::VarintTooLong),
            (&[0x00], ProtobufError::BadKey { key: 0 }),
            (&[0x02], ProtobufError::BadKey { key: 2 }),
            (&[0x0e], ProtobufError::BadKey { key: 14 }),
            (&[0x0f], ProtobufError::BadKey { key: 15 }),
            (&[0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00], ProtobufError::BadKey { key: over_32_bits }),
            (&[0x0c], ProtobufError::BadGroup),
            (&[0x0b, 0x14], ProtobufError::BadGroup),
            (&[0x0b], ProtobufError::Truncated),
        ] {
            let mut fields = Fields::of(message);
            assert_eq!(fields.next().unwrap().unwrap_err(), error, "{message:02x?}");
            assert!(fields.next().is_none(), "nothing can be known of what follows");
        }
    }

    #[test]
    fn a_field_is_only_what_it_is() {
        let field = |message: &'static [u8]| Fields::of(message).next().unwrap().unwrap();
        let wrong_type = ProtobufError::WrongType { number: 1 };
        assert_eq!(field(&[0x08, 0x96, 0x01]).varint(), Ok(150));
        assert_eq!(field(&[0x08, 0x96, 0x01]).bytes(), Err(wrong_type));
        assert_eq!(field(&[0x0a, 0x01, 0xff]).bytes(), Ok(&[0xff][..]));
        assert_eq!(field(&[0x0a, 0x01, 0xff]).varint(), Err(wrong_type));
        assert_eq!(field(&[0x0a, 0x01, 0xff]).text(), Err(ProtobufError::NotUtf8 { number: 1 }));
        assert_eq!(field(&[0x0d, 1, 2, 3, 4]).varint(), Err(wrong_type));
        assert_eq!(field(&[0x0b, 0x0c]).message().unwrap_err(), wrong_type);
    }
}

//! An append input that is sent again and again with other bodies of the same lengths: built once, copied and filled for
//! each time.

use std::ops::Range;

use bytes::Bytes;

use super::{Conditions, EncodedInput, InputBuilder, JsonInput};
use crate::{
    types::{Compression, layout::FRAME_HEAD_LEN, metered_size},
    wire::{Advice, FrameTooLong, message_frame},
};

/// The frame of an input, and where its bodies lie in it.
///
/// ```text
///   [head 4][0a len [1a len body]][0a len [1a len body]] …
///                           ^^^^                  ^^^^
/// ```
#[derive(Clone, Debug)]
pub struct InputTemplate {
    frame: Bytes,
    bodies: Vec<Range<usize>>,
    metered: usize,
}

impl InputTemplate {
    /// Of records with these bodies and nothing else. Limits are the caller's, as with [`InputBuilder::push`].
    pub fn new<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, FrameTooLong> {
        let (mut builder, mut ranges, mut metered) = (InputBuilder::new(), Vec::new(), 0);
        for body in bodies {
            builder.push(None, [], body);
            metered += metered_size(0, 0, body.len());
            let end = FRAME_HEAD_LEN + builder.message_len();
            ranges.push(end - body.len()..end);
        }
        let input = builder.build(Conditions::default(), Compression::None)?;
        Ok(Self { frame: input.frame(), bodies: ranges, metered })
    }

    /// Metered bytes of the records.
    pub fn metered(&self) -> usize {
        self.metered
    }

    /// An input in which `write` has had its way with each body, in order, and which is compressed if that is asked for
    /// and worth it. One copy of the frame, and nothing for each record but what `write` does.
    pub fn fill(&self, compression: Compression, write: impl FnMut(usize, &mut [u8])) -> EncodedInput {
        let frame = self.filled(write);
        let frame = match compression {
            Compression::None => frame.into(),
            compression => message_frame(compression, Advice::None, &frame[FRAME_HEAD_LEN..])
                .expect("its plain form was not too long when the template was made, and has the same length"),
        };
        EncodedInput::of_frame(frame, self.bodies.len(), self.metered)
    }

    /// As [`InputTemplate::fill`], for a request of its own. Every body is copied twice: once to be written to, and once
    /// as base64.
    pub fn fill_json(&self, write: impl FnMut(usize, &mut [u8])) -> JsonInput {
        let frame = self.filled(write);
        JsonInput::new(self.bodies.iter().map(|range| &frame[range.clone()]))
    }

    /// A copy of the frame, uncompressed, in which `write` has had its way.
    fn filled(&self, mut write: impl FnMut(usize, &mut [u8])) -> Vec<u8> {
        let mut frame = self.frame.to_vec();
        for (i, range) in self.bodies.iter().enumerate() {
            write(i, &mut frame[range.clone()]);
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_template_is_the_input_of_these_bodies() {
        let build = |bodies: [&[u8]; 3], compression| {
            let mut builder = InputBuilder::new();
            bodies.iter().for_each(|body| builder.push(None, [], body));
            builder.build(Conditions::default(), compression).unwrap()
        };
        let long = vec![b'y'; 3000];
        let (blank, filled) = ([&b"...."[..], b"", &[b'.'; 3000]], [&b"abcd"[..], b"", &long]);
        let template = InputTemplate::new(blank).unwrap();
        for compression in Compression::ALL {
            let input = template.fill(compression, |i, body| body.copy_from_slice(filled[i]));
            let expected = build(filled, compression);
            assert_eq!(input.frame(), expected.frame(), "{compression:?}");
            assert_eq!((input.records(), input.metered()), (3, expected.metered()));
            assert!(!input.is_positioned());
        }
        let json = template.fill_json(|i, body| body.copy_from_slice(filled[i]));
        assert_eq!((json.json(), json.records()), (JsonInput::new(filled).json(), 3));
        let untouched = template.fill(Compression::None, |_, _| {});
        assert_eq!(untouched.frame(), build(blank, Compression::None).frame());
    }
}

//! How messages become bytes: as tonic does it, in buffers that begin small.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec as TonicCodec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Bytes of a buffer before it has grown. Each direction of each open call has one, and most calls are sessions of clients
/// that say little: tonic's 8 KiB would be a third of what a connected client costs.
const BUFFER_BYTES: usize = 512;
/// Bytes after which a stream hands over what it has, as in tonic.
const YIELD_BYTES: usize = 32 * 1024;

/// Protocol buffers, for the generated services.
#[derive(Debug, Clone, Default)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> TonicCodec for Codec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}

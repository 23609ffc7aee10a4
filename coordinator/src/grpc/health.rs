//! gRPC reflection, so that tools such as `grpcurl` know every message without the `.proto` files.

use fedlora_proto::FILE_DESCRIPTOR_SET;
use tonic_reflection::server::{
    Builder, Error,
    v1::{ServerReflection, ServerReflectionServer},
};

/// The reflection service of every service of this coordinator, health included.
///
/// # Errors
/// Descriptors that do not fit together; the tests prove that they do.
pub fn reflection() -> Result<ServerReflectionServer<impl ServerReflection>, Error> {
    Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_fit_together() {
        reflection().expect("they do");
    }
}

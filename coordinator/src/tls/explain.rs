//! A failed handshake in plain words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// What most likely went wrong, and what to do about it.
pub(super) fn explain(error: &io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidMessage(_)) => "the peer does not speak TLS: it should use an https:// address",
        Some(Error::InvalidCertificate(fault)) => certificate(fault),
        Some(Error::AlertReceived(alert)) => alert_received(*alert),
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
            "the peer speaks another version of TLS, or not HTTP/2"
        }
        Some(_) => "the peer broke the rules of TLS",
        None if error.kind() == io::ErrorKind::UnexpectedEof => "the peer closed the connection",
        None => "the connection failed",
    }
}

fn certificate(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the peer's certificate has expired: it has to enrol again with a new token"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the peer's certificate is not valid yet: one of the two clocks is wrong"
        }
        CertificateError::UnknownIssuer => "the peer's certificate is another coordinator's: it has to enrol here",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the peer's certificate is not one for clients"
        }
        _ => "the peer's certificate is damaged",
    }
}

fn alert_received(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => "the peer does not trust this coordinator: its ca.pem is another one's",
        AlertDescription::CertificateExpired => {
            "the peer sees this coordinator's certificate as expired: compare clocks"
        }
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "the peer refuses this coordinator's certificate: is it for the host name that the peer used?"
        }
        _ => "the peer ended the handshake",
    }
}

#[cfg(test)]
mod tests {
    use rustls::InvalidMessage;

    use super::*;

    #[test]
    fn each_usual_mistake_has_words_of_its_own() {
        let errors = [
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS"),
            (Error::InvalidCertificate(CertificateError::Expired), "has expired"),
            (Error::InvalidCertificate(CertificateError::NotValidYet), "clocks"),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), "another coordinator's"),
            (Error::InvalidCertificate(CertificateError::InvalidPurpose), "not one for clients"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "ca.pem"),
            (Error::AlertReceived(AlertDescription::BadCertificate), "host name"),
            (Error::NoApplicationProtocol, "HTTP/2"),
        ];
        for (error, words) in errors {
            let found = explain(&io::Error::new(io::ErrorKind::InvalidData, error));
            assert!(found.contains(words), "{found}: expected {words}");
        }
        assert!(explain(&io::ErrorKind::UnexpectedEof.into()).contains("closed"));
    }
}

//! A coordinator's address, as people write it.

use std::{fmt, net::IpAddr, str::FromStr};

/// What is wrong with an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Not an address with scheme, host and port.
    #[error("{text:?} is no coordinator's address; expected for example https://coordinator.example.org:9443")]
    Address {
        /// What was given.
        text: String,
    },
    /// Clear text without the word for it.
    #[error("{server} is clear text; use https://, or insecure = true (--insecure) for a coordinator on this machine")]
    ClearText {
        /// The address.
        server: Server,
    },
    /// Clear text to another machine.
    #[error("{server} is clear text to another machine; insecure is for loopback addresses only, use https://")]
    NotLoopback {
        /// The address.
        server: Server,
    },
    /// TLS, and clear text asked for.
    #[error(
        "{server} uses TLS and cannot be insecure; drop insecure, or write http:// for a coordinator on this machine"
    )]
    Contradiction {
        /// The address.
        server: Server,
    },
}

/// Scheme, host and port of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    tls: bool,
    host: String,
    port: u16,
}

impl Server {
    /// Whether the connection is encrypted.
    #[must_use]
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The host's name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Checks that clear text is wanted, and stays on this machine.
    ///
    /// # Errors
    /// Clear text that was not asked for or would leave the machine; TLS where clear text was asked for.
    pub fn check(&self, insecure: bool) -> Result<(), ServerError> {
        let server = self.clone();
        let loopback = self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match (self.tls, insecure) {
            (true, true) => Err(ServerError::Contradiction { server }),
            (false, false) => Err(ServerError::ClearText { server }),
            (false, true) if !loopback => Err(ServerError::NotLoopback { server }),
            _ => Ok(()),
        }
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let wrong = || ServerError::Address { text: text.to_owned() };
        let (scheme, rest) = text.trim().trim_end_matches('/').split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let usable = |character: char| character.is_ascii_alphanumeric() || "-._:".contains(character);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        if host.is_empty() || !host.chars().all(usable) {
            return Err(wrong());
        }
        Ok(Self { tls, host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["https://coordinator.example.org:9443", "http://127.0.0.1:80", "https://[::1]:9443"] {
            assert_eq!(text.parse::<Server>().expect("an address").to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["coordinator:9443", "https://coordinator", "ftp://a:1", "https://:1", "https://a b:1", "http://a:0"]
        {
            text.parse::<Server>().expect_err(text);
        }
    }

    #[test]
    fn clear_text_is_for_this_machine_and_must_be_asked_for() {
        let check = |text: &str, insecure| text.parse::<Server>().expect("an address").check(insecure);
        assert_eq!(check("https://a:1", false), Ok(()));
        assert_eq!(check("http://localhost:1", true), Ok(()));
        assert_eq!(check("http://[::1]:1", true), Ok(()));
        assert!(check("http://localhost:1", false).is_err());
        assert!(check("http://10.0.0.1:1", true).is_err());
        assert!(check("https://localhost:1", true).is_err());
    }
}

//! Recipes of the providers that are known by name, each as its documentation has it.

use super::hmac::{Layout, Recipe, Template, TemplateError, Time, TimePlace, Unit};
use crate::core::secret::{Encoding, Hash};

/// Whose recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `X-Hub-Signature-256`; the older SHA-1 header is not looked at. Meta's are the same.
    Github,
    /// `Stripe-Signature`; what is not `v1` is not looked at.
    Stripe,
    /// `X-Slack-Signature`.
    Slack,
    /// `X-Shopify-Hmac-Sha256`.
    Shopify,
    /// `X-Retell-Signature`, under the API key.
    Retell,
    /// `x-zm-signature`.
    Zoom,
}

impl Provider {
    /// Every one of them.
    pub const ALL: [Self; 6] = [Self::Github, Self::Stripe, Self::Slack, Self::Shopify, Self::Retell, Self::Zoom];

    /// How it signs.
    ///
    /// # Errors
    /// Never: the templates here are right, and tested.
    pub fn recipe(self) -> Result<Recipe, TemplateError> {
        let plain = |prefix: &str| Layout::Plain { prefix: prefix.to_owned(), separator: None };
        let pairs = |signature: &str| Layout::Pairs { separator: ',', signature: signature.to_owned() };
        let header = |name: &str| Some(Time { place: TimePlace::Header(name.to_owned()), unit: Unit::Seconds });
        let pair = |name: &str, unit| Some(Time { place: TimePlace::Pair(name.to_owned()), unit });
        let (name, layout, template, encoding, time) = match self {
            Self::Github => ("x-hub-signature-256", plain("sha256="), "{body}", Encoding::Hex, None),
            Self::Stripe => {
                ("stripe-signature", pairs("v1"), "{timestamp}.{body}", Encoding::Hex, pair("t", Unit::Seconds))
            }
            Self::Slack => {
                let time = header("x-slack-request-timestamp");
                ("x-slack-signature", plain("v0="), "v0:{timestamp}:{body}", Encoding::Hex, time)
            }
            Self::Shopify => ("x-shopify-hmac-sha256", plain(""), "{body}", Encoding::Base64, None),
            Self::Retell => {
                ("x-retell-signature", pairs("d"), "{body}{timestamp}", Encoding::Hex, pair("v", Unit::Millis))
            }
            Self::Zoom => {
                let time = header("x-zm-request-timestamp");
                ("x-zm-signature", plain("v0="), "v0:{timestamp}:{body}", Encoding::Hex, time)
            }
        };
        let (header, template) = (name.to_owned(), Template::new(template)?);
        Ok(Recipe { header, layout, template, hash: Hash::Sha256, encoding, time, id: None })
    }
}

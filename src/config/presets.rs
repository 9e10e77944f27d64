//! `preset` of a source: what is known of a sender by its name, each key set by hand winning.
//!
//! A preset says how its sender is verified, where type, key and time stand, what makes two posts one event, and what
//! the sender wants to hear. Where a provider signs neither id nor time (GitHub, Shopify, Twilio), its id tells
//! duplicates all the same: it is what an honest sender repeats, and bodies alone may be equal without being one event.

use crate::core::source::{Ack, DedupRule, Place};
use crate::core::verify::Scheme;

use super::verify::{Asks, Style};

/// What a source does about the keys it does not set.
pub(super) struct Preset {
    /// How it is called.
    pub(super) name: &'static str,
    /// How it signs.
    pub(super) style: Style,
    /// What it asks before it sends.
    pub(super) handshake: Asks,
    pub(super) type_at: &'static [At],
    pub(super) key_at: &'static [At],
    pub(super) time_at: &'static [At],
    dedup: Dedup,
    /// Its ack: a status, and no body where that is so small that it has none.
    ack: u16,
    /// Largest body it sends, in bytes.
    pub(super) body_max: u64,
}

/// A [`Place`], in a constant.
#[derive(Clone, Copy)]
pub(super) enum At {
    Pointer(&'static str),
    Header(&'static str),
    Form(&'static str),
}

/// A [`DedupRule`], in a constant.
enum Dedup {
    Off,
    /// By what is signed; where nothing is verified, by this header.
    Message(&'static str),
    Header(&'static str),
    Fields(&'static [&'static str], bool),
}

use At::{Form, Header, Pointer};

const MIB: u64 = 1 << 20;

/// Nothing is read.
pub(super) const PLAIN: Preset = Preset {
    name: "",
    style: Style::Off,
    handshake: Asks::Nothing,
    type_at: &[],
    key_at: &[],
    time_at: &[],
    dedup: Dedup::Off,
    ack: 202,
    body_max: MIB,
};

const PRESETS: [Preset; 13] = [
    // Flyflow signs nothing and sends no event id: duplicates are told by all there is.
    Preset {
        name: "flyflow",
        type_at: &[Pointer("/event_type")],
        key_at: &[Pointer("/call_id")],
        time_at: &[Pointer("/timestamp")],
        dedup: Dedup::Fields(&["/event_type", "/call_id", "/timestamp"], true),
        ..PLAIN
    },
    Preset {
        name: "standard",
        style: Style::Standard,
        type_at: &[Pointer("/type")],
        time_at: &[Pointer("/timestamp")],
        dedup: Dedup::Message("webhook-id"),
        ..PLAIN
    },
    Preset {
        name: "svix",
        style: Style::Standard,
        type_at: &[Pointer("/type"), Pointer("/eventType")],
        time_at: &[Pointer("/timestamp")],
        dedup: Dedup::Message("svix-id"),
        ..PLAIN
    },
    Preset {
        name: "stripe",
        style: Style::Stripe,
        type_at: &[Pointer("/type")],
        key_at: &[Pointer("/data/object/customer"), Pointer("/data/object/id"), Pointer("/related_object/id")],
        time_at: &[Pointer("/created")],
        dedup: Dedup::Fields(&["/id"], false),
        ..PLAIN
    },
    Preset {
        name: "github",
        style: Style::Github,
        type_at: &[Header("x-github-event")],
        key_at: &[Pointer("/repository/full_name"), Pointer("/organization/login")],
        dedup: Dedup::Header("x-github-delivery"),
        body_max: 25 * MIB,
        ..PLAIN
    },
    // What comes as a form (commands, buttons) has no event id: then what is signed tells duplicates.
    Preset {
        name: "slack",
        style: Style::Slack,
        handshake: Asks::Slack,
        type_at: &[Pointer("/event/type"), Pointer("/type"), Form("command")],
        key_at: &[Pointer("/event/channel"), Pointer("/event/item/channel"), Pointer("/team_id"), Form("channel_id")],
        time_at: &[Pointer("/event_time")],
        dedup: Dedup::Fields(&["/event_id"], false),
        ack: 200,
        ..PLAIN
    },
    // Orders are created, paid and updated with equal bodies: only the id tells them apart.
    Preset {
        name: "shopify",
        style: Style::Shopify,
        type_at: &[Header("x-shopify-topic")],
        key_at: &[Pointer("/order_id"), Pointer("/id")],
        time_at: &[Header("x-shopify-triggered-at")],
        dedup: Dedup::Header("x-shopify-webhook-id"),
        ack: 200,
        ..PLAIN
    },
    // Anything but an empty answer it would take for instructions.
    Preset {
        name: "twilio",
        style: Style::Twilio,
        type_at: &[Form("MessageStatus"), Form("CallStatus"), Form("SmsStatus"), Form("EventType"), Pointer("/type")],
        key_at: &[Form("CallSid"), Form("MessageSid"), Form("SmsSid"), Form("ConversationSid")],
        dedup: Dedup::Header("i-twilio-idempotency-token"),
        ack: 204,
        ..PLAIN
    },
    Preset {
        name: "retell",
        style: Style::Retell,
        type_at: &[Pointer("/event")],
        key_at: &[Pointer("/call/call_id"), Pointer("/chat/chat_id")],
        dedup: Dedup::Fields(&["/event", "/call/call_id"], true),
        ..PLAIN
    },
    Preset {
        name: "vapi",
        style: Style::Vapi,
        type_at: &[Pointer("/message/type")],
        key_at: &[Pointer("/message/call/id")],
        time_at: &[Pointer("/message/timestamp")],
        dedup: Dedup::Fields(&["/message/type", "/message/call/id", "/message/timestamp"], true),
        ack: 200,
        ..PLAIN
    },
    Preset {
        name: "zoom",
        style: Style::Zoom,
        handshake: Asks::Zoom,
        type_at: &[Pointer("/event")],
        key_at: &[Pointer("/payload/object/uuid"), Pointer("/payload/object/id")],
        time_at: &[Pointer("/event_ts")],
        dedup: Dedup::Fields(&["/event", "/event_ts"], true),
        ack: 200,
        ..PLAIN
    },
    Preset {
        name: "meta",
        style: Style::Meta,
        handshake: Asks::Meta,
        type_at: &[Pointer("/object")],
        key_at: &[Pointer("/entry/0/id")],
        time_at: &[Pointer("/entry/0/time")],
        dedup: Dedup::Fields(&[], true),
        ack: 200,
        ..PLAIN
    },
    // Its notifications have no time and no id that is always there: equal ones may well be two.
    Preset {
        name: "microsoft",
        style: Style::Microsoft,
        handshake: Asks::Microsoft,
        type_at: &[Pointer("/value/0/lifecycleEvent"), Pointer("/value/0/changeType")],
        key_at: &[Pointer("/value/0/resource"), Pointer("/value/0/subscriptionId")],
        ..PLAIN
    },
];

/// The preset of that name.
pub(super) fn preset(text: &str) -> Result<&'static Preset, String> {
    PRESETS.iter().find(|preset| preset.name == text).ok_or_else(|| {
        let names: Vec<String> = PRESETS.iter().map(|preset| format!("\"{}\"", preset.name)).collect();
        format!("no such preset; there are {}; or leave it out and set type, key and time", names.join(", "))
    })
}

impl Preset {
    pub(super) fn dedup(&self, scheme: &Scheme) -> DedupRule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        match self.dedup {
            Dedup::Off => DedupRule::Off,
            Dedup::Message(header) if matches!(scheme, Scheme::Open | Scheme::Credential(_) | Scheme::ClientState) => {
                DedupRule::Header(header.to_owned())
            }
            Dedup::Message(_) => DedupRule::Message,
            Dedup::Header(name) => DedupRule::Header(name.to_owned()),
            Dedup::Fields(pointers, body) => DedupRule::Fields { pointers: owned(pointers), body },
        }
    }

    pub(super) fn ack(&self) -> Ack {
        let body = (self.ack == 204).then(String::new);
        Ack { status: self.ack, body, content_type: "application/json".to_owned() }
    }
}

impl From<At> for Place {
    fn from(at: At) -> Self {
        match at {
            At::Pointer(pointer) => Self::Pointer(pointer.to_owned()),
            At::Header(name) => Self::Header(name.to_owned()),
            At::Form(name) => Self::Form(name.to_owned()),
        }
    }
}

"""What Slack accepts, as plain constants.

One table for two readers: the cards are cut to fit it before they leave, and the pretend Slack refuses whatever does
not fit it. Slack answers most breaches by refusing the whole message, so a number that is wrong here loses messages.
Characters are counted as Slack counts them (code points, not bytes).
"""

from typing import Final

# ── messages ──
BLOCKS_PER_MESSAGE: Final = 50
TEXT_PER_MESSAGE: Final = 13_200  # over all blocks; undocumented, answered with msg_blocks_too_long
POST_TEXT: Final = 40_000  # longer is cut short by chat.postMessage
UPDATE_TEXT: Final = 4_000  # longer is refused by chat.update with msg_too_long
ATTACHMENTS_PER_MESSAGE: Final = 20
TABLES_PER_MESSAGE: Final = 1
MARKDOWN_PER_MESSAGE: Final = 12_000  # over all markdown blocks of one message

# ── blocks ──
BLOCK_ID: Final = 255
SECTION_TEXT: Final = 3_000
SECTION_FIELDS: Final = 10
FIELD_TEXT: Final = 2_000
HEADER_TEXT: Final = 150
CONTEXT_ELEMENTS: Final = 10
CONTEXT_TEXT: Final = 2_000
ACTIONS_ELEMENTS: Final = 25
ALERT_TEXT: Final = 200
IMAGE_URL: Final = 3_000
IMAGE_ALT: Final = 2_000
IMAGE_TITLE: Final = 2_000
TABLE_ROWS: Final = 100
TABLE_COLUMNS: Final = 20
TABLE_TEXT: Final = 10_000  # over all cells
RICH_TEXT_INDENT: Final = 8
INPUT_LABEL: Final = 2_000
INPUT_HINT: Final = 2_000

# ── elements ──
ACTION_ID: Final = 255
BUTTON_TEXT: Final = 75
BUTTON_VALUE: Final = 2_000
BUTTON_URL: Final = 3_000
ACCESSIBILITY_LABEL: Final = 75
PLACEHOLDER: Final = 150
OPTIONS: Final = 100
OPTION_GROUPS: Final = 100
OPTION_GROUP_LABEL: Final = 75
OPTION_TEXT: Final = 75
OPTION_VALUE: Final = 150
OPTION_DESCRIPTION: Final = 75
OPTION_URL: Final = 3_000
OVERFLOW_OPTIONS: Final = 5
CHECKBOXES: Final = 10
INPUT_VALUE: Final = 3_000
CONFIRM_TITLE: Final = 100
CONFIRM_TEXT: Final = 300
CONFIRM_BUTTON: Final = 30

# ── modals ──
BLOCKS_PER_MODAL: Final = 100
MODAL_TITLE: Final = 24
MODAL_BUTTON: Final = 24
CALLBACK_ID: Final = 255
EXTERNAL_ID: Final = 255
PRIVATE_METADATA: Final = 3_000
VIEW_STACK: Final = 3

# ── time ──
ACK_SECONDS: Final = 3.0
TRIGGER_SECONDS: Final = 3.0
RESPONSE_URL_SECONDS: Final = 30 * 60.0
RESPONSE_URL_USES: Final = 5

# ── rates ──
POSTS_PER_SECOND: Final = 1.0  # per channel
TIER_PER_MINUTE: Final = {1: 1, 2: 20, 3: 50, 4: 100}
"""Calls a minute for one method, app and workspace; chat.update is tier 3, shared by everything the bot edits."""

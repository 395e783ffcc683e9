// Emoji codes that operators use, as Unicode. An unknown code stays readable as text.
const CODES = {
  white_check_mark: "✅", heavy_check_mark: "✔️", x: "❌", warning: "⚠️", rotating_light: "🚨", fire: "🔥",
  red_circle: "🔴", large_orange_circle: "🟠", large_yellow_circle: "🟡", large_green_circle: "🟢",
  large_blue_circle: "🔵", large_purple_circle: "🟣", white_circle: "⚪", black_circle: "⚫",
  large_red_square: "🟥", large_orange_square: "🟧", large_yellow_square: "🟨", large_green_square: "🟩",
  large_blue_square: "🟦", white_large_square: "⬜", black_large_square: "⬛", white_medium_square: "◻️",
  hourglass: "⌛", hourglass_flowing_sand: "⏳", stopwatch: "⏱️", alarm_clock: "⏰", clock1: "🕐", calendar: "📅",
  bell: "🔔", no_bell: "🔕", mute: "🔇", loudspeaker: "📢", mega: "📣", speech_balloon: "💬", thought_balloon: "💭",
  hospital: "🏥", ambulance: "🚑", pill: "💊", stethoscope: "🩺", syringe: "💉", adhesive_bandage: "🩹",
  thermometer: "🌡️", face_with_thermometer: "🤒", helmet_with_white_cross: "⛑️", heart: "❤️", green_heart: "💚",
  broken_heart: "💔", wrench: "🔧", hammer: "🔨", hammer_and_wrench: "🛠️", gear: "⚙️", nut_and_bolt: "🔩",
  toolbox: "🧰", construction: "🚧", no_entry: "⛔", no_entry_sign: "🚫", octagonal_sign: "🛑", stop_sign: "🛑",
  lock: "🔒", unlock: "🔓", key: "🔑", shield: "🛡️", eyes: "👀", mag: "🔍", microscope: "🔬", telescope: "🔭",
  clipboard: "📋", memo: "📝", page_facing_up: "📄", books: "📚", book: "📖", bookmark: "🔖", paperclip: "📎",
  chart_with_upwards_trend: "📈", chart_with_downwards_trend: "📉", bar_chart: "📊", computer: "💻",
  desktop_computer: "🖥️", floppy_disk: "💾", electric_plug: "🔌", battery: "🔋", satellite: "📡", robot_face: "🤖",
  package: "📦", whale: "🐳", rocket: "🚀", zap: "⚡", boom: "💥", snowflake: "❄️", droplet: "💧", zzz: "💤",
  recycle: "♻️", repeat: "🔁", arrows_counterclockwise: "🔄", arrow_right: "➡️", arrow_left: "⬅️", arrow_up: "⬆️",
  arrow_down: "⬇️", arrow_forward: "▶️", double_vertical_bar: "⏸️", black_square_for_stop: "⏹️", next_track: "⏭️",
  fast_forward: "⏩", rewind: "⏪", heavy_plus_sign: "➕", heavy_minus_sign: "➖", question: "❓",
  grey_question: "❔", exclamation: "❗", grey_exclamation: "❕", information_source: "ℹ️", bulb: "💡", star: "⭐",
  sparkles: "✨", tada: "🎉", wave: "👋", thumbsup: "👍", "+1": "👍", thumbsdown: "👎", "-1": "👎", ok_hand: "👌",
  clap: "👏", pray: "🙏", raised_hand: "✋", point_right: "👉", muscle: "💪", sob: "😭", smile: "😄", grin: "😁",
  thinking_face: "🤔", skull: "💀", ghost: "👻", bug: "🐛", link: "🔗", globe_with_meridians: "🌐", house: "🏠",
  hotel: "🏨", factory: "🏭", checkered_flag: "🏁", triangular_flag_on_post: "🚩", traffic_light: "🚦",
  vertical_traffic_light: "🚦", bust_in_silhouette: "👤", busts_in_silhouette: "👥", crescent_moon: "🌙",
  sunny: "☀️", cloud: "☁️", one: "1️⃣", two: "2️⃣", three: "3️⃣", four: "4️⃣", five: "5️⃣",
};

export const emoji = (name) => CODES[name] ?? `:${name}:`;
export const isEmoji = (name) => Object.hasOwn(CODES, name);

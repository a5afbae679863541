/** The plugins. */

import { commands } from "./commands.ts";
import { editor } from "./editor.ts";
import { files } from "./files.ts";
import { notifications } from "./notifications.ts";
import { panels } from "./panels.ts";
import { running } from "./running.ts";
import { sidebar } from "./sidebar.ts";
import { status } from "./status.ts";

export const plugins = [panels, files, editor, commands, sidebar, status, notifications, running];

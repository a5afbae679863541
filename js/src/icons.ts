/**
 * The icons of panels: those of Font Awesome 5, which JupyterLab has, too. They are drawn by the style
 * sheet, since other pages have no Font Awesome. Their names are those of Font Awesome 4.
 */

import {
  faBookmark,
  faClone,
  faCopy,
  faImage,
  faKeyboard,
  faTrashAlt,
  faFile as regularFile,
  faStar as regularStar,
} from "@fortawesome/free-regular-svg-icons";
import {
  faArrowDown,
  faArrowsAlt,
  faArrowUp,
  faBan,
  faCaretDown,
  faCheck,
  faChevronLeft,
  faChevronRight,
  faColumns,
  faCompressAlt,
  faCrop,
  faCube,
  faDownload,
  faEllipsisH,
  faEraser,
  faExchangeAlt,
  faExclamationTriangle,
  faExpandAlt,
  faExpandArrowsAlt,
  faEye,
  faFile,
  faFilm,
  faGlobe,
  faGripVertical,
  faHistory,
  faKey,
  faListUl,
  faLock,
  faMinus,
  faMusic,
  faPaintBrush,
  faPause,
  faPencilAlt,
  faPlay,
  faPlus,
  faRandom,
  faReply,
  faSave,
  faSearchMinus,
  faSearchPlus,
  faShare,
  faSignInAlt,
  faSignOutAlt,
  faSitemap,
  faStar,
  faStop,
  faSync,
  faTags,
  faTh,
  faThumbtack,
  faTimes,
  faUndo,
  faUnlockAlt,
  faUpload,
} from "@fortawesome/free-solid-svg-icons";

const ICONS = {
  share: faShare,
  compress: faCompressAlt,
  th: faTh,
  list: faListUl,
  eye: faEye,
  minus: faMinus,
  pause: faPause,
  "paint-brush": faPaintBrush,
  "ellipsis-h": faEllipsisH,
  copy: faCopy,
  "arrow-down": faArrowDown,
  "arrow-up": faArrowUp,
  arrows: faArrowsAlt,
  "arrows-alt": faExpandArrowsAlt,
  ban: faBan,
  "bookmark-o": faBookmark,
  "caret-down": faCaretDown,
  check: faCheck,
  "chevron-left": faChevronLeft,
  "chevron-right": faChevronRight,
  clone: faClone,
  columns: faColumns,
  crop: faCrop,
  cube: faCube,
  download: faDownload,
  eraser: faEraser,
  exchange: faExchangeAlt,
  "exclamation-triangle": faExclamationTriangle,
  expand: faExpandAlt,
  file: faFile,
  "file-o": regularFile,
  film: faFilm,
  globe: faGlobe,
  "grip-vertical": faGripVertical,
  history: faHistory,
  key: faKey,
  "keyboard-o": faKeyboard,
  lock: faLock,
  music: faMusic,
  pencil: faPencilAlt,
  "picture-o": faImage,
  play: faPlay,
  plus: faPlus,
  random: faRandom,
  refresh: faSync,
  reply: faReply,
  save: faSave,
  "search-minus": faSearchMinus,
  "search-plus": faSearchPlus,
  "sign-in": faSignInAlt,
  "sign-out": faSignOutAlt,
  sitemap: faSitemap,
  star: faStar,
  "star-o": regularStar,
  stop: faStop,
  tags: faTags,
  "thumb-tack": faThumbtack,
  times: faTimes,
  "trash-o": faTrashAlt,
  undo: faUndo,
  "unlock-alt": faUnlockAlt,
  upload: faUpload,
};

export type IconName = keyof typeof ICONS;

function rule([name, { icon }]: [string, { icon: readonly unknown[] }]): string {
  const [width, height, , , path] = icon;
  const svg = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${width} ${height}'><path d='${path}'/></svg>`;
  const em = Math.round((1000 * Number(width)) / Number(height)) / 1000;
  return `.comfydeploy-panel .fa-${name}{--cd-icon:url("data:image/svg+xml,${encodeURI(svg)}");--cd-icon-width:${em}em}`;
}

/** The style sheet that draws them: `<i class="fa fa-play">`. */
export const iconStyle = `
.comfydeploy-panel .fa { display: inline-block; font-style: normal; line-height: 1; }
.comfydeploy-panel .fa::before {
  content: ""; display: inline-block; width: var(--cd-icon-width); height: 1em; vertical-align: -0.125em;
  background: currentColor; forced-color-adjust: none; mask: var(--cd-icon) center / contain no-repeat;
}
${Object.entries(ICONS).map(rule).join("\n")}
`;

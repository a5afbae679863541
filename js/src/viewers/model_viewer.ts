/**
 * Shows a 3D model that can be turned. The page loads this file when a model is first opened.
 *
 * Models are not trusted: no address in them is requested, and the sizes in them are checked before
 * memory is allocated.
 */

import {
  AmbientLight,
  Box3,
  BufferAttribute,
  type BufferGeometry,
  DirectionalLight,
  Group,
  LoadingManager,
  Mesh,
  MeshStandardMaterial,
  type Object3D,
  PerspectiveCamera,
  Points,
  PointsMaterial,
  Scene,
  Sphere,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";
import { PLYLoader } from "three/addons/loaders/PLYLoader.js";

/** A model that is shown. */
export type Shown = { canvas: HTMLCanvasElement; close: () => void };

const READ_WITHIN = 60_000; // ms; reading a file never ends if its parts wait for each other
const GLTF_MAGIC = 0x46546c67;
const JSON_CHUNK = 0x4e4f534a;
const SH = 0.28209479177387814; // of a splat's colour: its constant term of the spherical harmonics
const ELSEWHERE = "It needs other files";
const HEAD = 8192; // bytes with the header of a PLY file; that of a splat has 1.5 kB
const STEP = Math.PI / 12; // by which a key turns a model
const ZOOM = 1.2;

/** Show a model in an element; throws an error with the reason if it cannot be shown. */
export async function show(host: HTMLElement, content: ArrayBuffer): Promise<Shown> {
  const renderer = makeRenderer();
  let model: Object3D;
  try {
    model = await within(READ_WITHIN, read(content));
  } catch (error) {
    free(renderer);
    throw error;
  }
  const pivot = new Group();
  pivot.add(model);
  const sphere = new Box3().setFromObject(model).getBoundingSphere(new Sphere());
  if (!(sphere.radius > 0 && Number.isFinite(sphere.radius))) {
    free(renderer);
    throw new Error("It contains nothing that can be shown");
  }
  model.position.sub(sphere.center);

  const scene = new Scene();
  const camera = new PerspectiveCamera(40, 1, sphere.radius / 100, sphere.radius * 100);
  const light = new DirectionalLight(0xffffff, 2);
  camera.position
    .set(0.6, 0.4, 1)
    .normalize()
    .multiplyScalar(sphere.radius * 3.2);
  light.position.set(1, 2, 3);
  camera.add(light);
  scene.add(camera, pivot, new AmbientLight(0xffffff, 1));

  const { domElement: canvas } = renderer;
  let waits = false;
  const draw = () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      renderer.render(scene, camera);
    });
  };
  const controls = new OrbitControls(camera, canvas);
  controls.addEventListener("change", draw);
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") pivot.rotation.y -= STEP;
    else if (event.key === "ArrowRight") pivot.rotation.y += STEP;
    else if (event.key === "ArrowUp") pivot.rotation.x -= STEP;
    else if (event.key === "ArrowDown") pivot.rotation.x += STEP;
    else if (event.key === "+") camera.position.divideScalar(ZOOM);
    else if (event.key === "-") camera.position.multiplyScalar(ZOOM);
    else return;
    event.preventDefault();
    event.stopPropagation();
    controls.update();
    draw();
  });
  const fit = () => {
    const { clientWidth: width, clientHeight: height } = host;
    if (!(width && height)) return;
    renderer.setSize(width, height);
    camera.aspect = width / height;
    camera.updateProjectionMatrix();
    renderer.render(scene, camera); // at once: a change of its size clears a canvas
  };
  const sizes = new ResizeObserver(fit);
  host.append(canvas);
  sizes.observe(host);
  fit();
  const close = () => {
    sizes.disconnect();
    controls.dispose();
    canvas.remove();
    free(renderer);
  };
  return { canvas, close };
}

function makeRenderer(): WebGLRenderer {
  // Checked first, because three.js writes to the console if WebGL is missing.
  if (!document.createElement("canvas").getContext("webgl2")) {
    throw new Error("This browser has no WebGL");
  }
  const renderer = new WebGLRenderer({ antialias: true, alpha: true });
  renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
  return renderer;
}

function free(renderer: WebGLRenderer): void {
  renderer.dispose();
  renderer.forceContextLoss();
}

/** Return a promise that fails if another one takes longer. */
function within<T>(time: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("It could not be read in time")), time);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** Read a model; its first bytes determine the format. */
async function read(content: ArrayBuffer): Promise<Object3D> {
  const head = new TextDecoder("latin1").decode(content.slice(0, HEAD));
  if (/^ply\s/.test(head)) return cloudOrMesh(content, / f_dc_0\s/.test(head));
  if (head.startsWith("glTF") || head.trimStart().startsWith("{")) return await gltf(content);
  throw new Error("It is neither a GLB nor a PLY file");
}

async function gltf(content: ArrayBuffer): Promise<Object3D> {
  checkGltf(content);
  const manager = new LoadingManager();
  manager.setURLModifier((url) => {
    if (/^(blob|data):/i.test(url)) return url;
    throw new Error(ELSEWHERE);
  });
  try {
    const { scene } = await new GLTFLoader(manager).parseAsync(content, "");
    return scene;
  } catch (error) {
    const { message } = error as Error;
    if (message === ELSEWHERE) throw error;
    throw /draco|ktx2|meshopt/i.test(message) ? new Error("It is compressed") : broken();
  }
}

/** Throw if a glTF file is too small for the numbers of values that it declares. */
function checkGltf(content: ArrayBuffer): void {
  const size = content.byteLength;
  let text = content;
  if (size >= 20) {
    const view = new DataView(content);
    if (view.getUint32(0, true) === GLTF_MAGIC) {
      const length = view.getUint32(12, true);
      if (view.getUint32(16, true) !== JSON_CHUNK || 20 + length > size) throw broken();
      text = content.slice(20, 20 + length);
    }
  }
  let described: { accessors?: unknown };
  try {
    described = JSON.parse(new TextDecoder().decode(text));
  } catch {
    throw broken();
  }
  const accessors = described?.accessors ?? [];
  if (!Array.isArray(accessors)) throw broken();
  for (const accessor of accessors) {
    const count = accessor?.count;
    if (!(Number.isInteger(count) && count >= 0 && count <= size)) throw broken();
  }
}

function broken(): Error {
  return new Error("The file is broken");
}

/** Return the mesh of a PLY file, or its points; the points of a splat have the splat's colours. */
function cloudOrMesh(content: ArrayBuffer, isSplat: boolean): Object3D {
  const loader = new PLYLoader();
  if (isSplat) loader.setCustomPropertyNameMapping({ splat: ["f_dc_0", "f_dc_1", "f_dc_2"] });
  let geometry: BufferGeometry;
  try {
    geometry = loader.parse(content);
  } catch {
    throw broken();
  }
  const position = geometry.getAttribute("position");
  if (!position?.count) throw broken();
  const splat = geometry.getAttribute("splat");
  if (splat) {
    const colors = Float32Array.from(splat.array, (term) =>
      Math.min(Math.max(0.5 + SH * term, 0), 1),
    );
    geometry.setAttribute("color", new BufferAttribute(colors, 3));
  }
  const vertexColors = geometry.hasAttribute("color");
  if (geometry.index?.count) {
    if (!geometry.hasAttribute("normal")) geometry.computeVertexNormals();
    return new Mesh(geometry, new MeshStandardMaterial({ vertexColors, side: 2, roughness: 0.8 }));
  }
  const material = new PointsMaterial({ vertexColors, size: 2, sizeAttenuation: false });
  if (!vertexColors) material.color.set(0x808080);
  const points = new Points(geometry, material);
  // The training of splats has y pointing down.
  if (splat) points.rotation.x = Math.PI;
  const turned = new Group();
  turned.add(points);
  return turned;
}
